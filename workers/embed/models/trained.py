"""A trained model as a pipeline of the engine: what its trainer's own vectors are, at unit length.

Legend: B batch, D dimension, C channels, H height, W width.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from workers.embed.hosting import Pipeline
from workers.embed.items import Matrix, ModelRefused, Prepared, Refusal
from workers.embed.media.images import decode_image
from workers.embed.pipelines.hosted import HostedImage, HostedText
from workers.nets.contracts import BagInput, FeaturesInput, ImageInput, TokensInput
from workers.nets.manifest import Artifact, ArtifactRefused, load_artifact
from workers.nets.parts import Inputs, Net

logger = logging.getLogger(__name__)

#: Tokenising this much takes a second; the models look at the beginning, or count words.
_MAX_CHARS = 1_000_000
#: A picture of 224 x 224 costs about as much device time as this many tokens.
_COST_TOKENS = 128
_COST_SIDE = 224
#: Counts of so many words take as much memory as one token's vectors.
_WORDS_A_TOKEN = 1024
_SAMPLE_TEXT = "A first text warms the model up."


class TrainedText:
    """Tokenizer and net of a model of texts. Thread-safe."""

    def __init__(self, net: Net, contract: BagInput | TokensInput, tokenizer: Tokenizer) -> None:
        self._net = net
        self._contract = contract
        self._tokenizer = tokenizer

    def prepare(self, texts: Sequence[str]) -> list[Prepared | Refusal]:
        """Tokenise. The payload of each is what `__call__` takes a list of."""
        # Those that are refused below are nothing to tokenise.
        encodings = self._tokenizer.encode_batch([text if len(text) <= _MAX_CHARS else "" for text in texts])
        return [self._prepared(text, encoding.ids) for text, encoding in zip(texts, encodings, strict=True)]

    def __call__(self, batch: Sequence[Sequence[int]]) -> Matrix:
        """Embed token numbers: (B, D), unit length."""
        return _embed(self._net, self._contract.batch(batch))

    def _prepared(self, text: str, ids: list[int]) -> Prepared | Refusal:
        if not text or text.isspace():
            return Refusal("INVALID_INPUT", "The text is empty.")
        if len(text) > _MAX_CHARS:
            return Refusal(
                "PAYLOAD_TOO_LARGE",
                f"The text has {len(text):,} characters; a trained model takes {_MAX_CHARS:,}.",
            )
        row = self._contract.row(ids)
        if isinstance(self._contract, BagInput):
            return Prepared(row, 1 + self._contract.vocabulary_size // _WORDS_A_TOKEN, tokens=len(row))
        return Prepared(row, len(row), tokens=len(row), truncated=len(ids) > len(row))


class TrainedImage:
    """Decoder and net of a model of pictures. Thread-safe."""

    def __init__(self, net: Net, contract: ImageInput, *, max_pixels: int) -> None:
        self._net = net
        self._contract = contract
        self._max_pixels = max_pixels

    @property
    def _cost(self) -> int:
        return max(1, round(_COST_TOKENS * (self._contract.side / _COST_SIDE) ** 2))

    def prepare(self, data: bytes) -> Prepared:
        """Decode and resize. The payload is what `__call__` takes a list of.

        Raises:
            Refusal: see `decode_image`.
        """
        image = decode_image(data, max_pixels=self._max_pixels)
        return Prepared(self._contract.pixels([image])[0], self._cost)

    def blank(self) -> Prepared:
        """Give a grey picture, to try the net with."""
        side, channels = self._contract.side, self._contract.channels
        return Prepared(torch.full((channels, side, side), 127, dtype=torch.uint8), self._cost)

    def __call__(self, batch: Sequence[Tensor]) -> Matrix:
        """Embed pictures of (C, H, W): (B, D), unit length."""
        return _embed(self._net, self._contract.scale(torch.stack(list(batch))))


def open_trained(folder: Path, *, dimension: int, max_pixels: int) -> Pipeline:
    """Rebuild the model whose artifact lies in a folder, and try it once.

    Raises:
        ModelRefused: UNSUPPORTED_MEDIA when it takes neither texts nor pictures, INTERNAL when its files are
            not what they should be or it does not embed.
    """
    try:
        artifact = load_artifact(folder)
    except ArtifactRefused as error:
        logger.error("the model in %s is refused: %s", folder, error)  # noqa: TRY400 - it says all
        raise _damaged() from error
    if artifact.manifest.dimension != dimension:
        logger.error("the model in %s has another dimension than is said: %d", folder, dimension)
        raise _damaged()
    artifact.net.requires_grad_(requires_grad=False)
    pipeline, sample = _hosted(artifact, max_pixels)
    try:
        row = pipeline.run([sample.payload])
    except Exception as error:
        logger.exception("the model in %s can't embed", folder)
        raise _damaged() from error
    if row.shape != (1, dimension):
        logger.error("the model in %s gives rows of %s", folder, row.shape)
        raise _damaged()
    return pipeline


def _hosted(artifact: Artifact, max_pixels: int) -> tuple[Pipeline, Prepared]:
    contract, dimension = artifact.manifest.input, artifact.manifest.dimension
    if isinstance(contract, FeaturesInput):
        raise ModelRefused(
            "UNSUPPORTED_MEDIA", "The model takes rows of numbers; only texts and pictures can be embedded."
        )
    if isinstance(contract, ImageInput):
        image = TrainedImage(artifact.net, contract, max_pixels=max_pixels)
        return HostedImage(image, dimension, image), image.blank()  # type: ignore[arg-type]
    if artifact.tokenizer is None:
        raise _damaged()
    text = TrainedText(artifact.net, contract, artifact.tokenizer)
    (sample,) = text.prepare([_SAMPLE_TEXT])
    if isinstance(sample, Refusal):
        raise _damaged() from sample
    return HostedText(text, dimension, text), sample  # type: ignore[arg-type]


def _damaged() -> ModelRefused:
    return ModelRefused("INTERNAL", "The model's files are damaged.")


@torch.inference_mode()
def _embed(net: Net, inputs: Inputs) -> Matrix:
    # Doubles: squares of a float's greatest values are none. A row of zeros has no direction: it becomes NaN,
    # and the engine refuses its input.
    vectors_BD = net.encode(inputs).double()
    rows: Matrix = (vectors_BD / vectors_BD.norm(dim=1, keepdim=True)).numpy().astype(np.float32)
    return rows
