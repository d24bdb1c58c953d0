"""Pictures and texts out of an exported model; the same seed makes the same ones.

Legend: N pictures or texts, B a batch of them, Z latent, V vocabulary.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from bus.messages.work import GenerationSpec
from workers.nets.gan import Gan
from workers.nets.manifest import Artifact, load_artifact
from workers.nets.sequences import LanguageModel, LanguageOutput
from workers.train.data.vocabularies import END, PADDING, START, UNKNOWN
from workers.train.rng import isolated_rng
from workers.train.run.parents import NET_FOLDER
from workers.train.run.problems import CannotTrain
from workers.train.trainers.rnn.sampling import draw

_BATCH = 64


def generate(model_folder: Path, spec: GenerationSpec, classes: list[str], out: Path) -> str:
    """Write ``0000.png`` and so on, or ``0000.txt``, into ``out``; gives their media type.

    ``classes`` are the names of the classes that the model was trained with, by number.

    Raises:
        CannotTrain: the model makes nothing, or not what is asked for.
        ArtifactRefused: the model can't be trusted.
    """
    if not (model_folder / NET_FOLDER).is_dir():
        raise CannotTrain("this model generates nothing")
    artifact = load_artifact(model_folder / NET_FOLDER)
    out.mkdir(parents=True, exist_ok=True)
    with isolated_rng(spec.seed), torch.inference_mode():
        if isinstance(artifact.net, Gan) and artifact.net.discriminator.head.out_features == 1:
            _write(draw_pictures(artifact.net, spec, classes), out, ".png", _save_picture)
            return "image/png"
        if isinstance(artifact.net, LanguageModel):
            texts = write_texts(artifact.net, _words(artifact), spec)
            _write(texts, out, ".txt", lambda path, text: path.write_text(text, encoding="utf-8"))
            return "text/plain"
    raise CannotTrain("this model generates nothing", "Models of a GAN or of a language model do.")


def _write(made: Iterator[Any], out: Path, suffix: str, save: Callable[[Path, Any], object]) -> None:
    for number, each in enumerate(made):
        save(out / f"{number:04d}{suffix}", each)


def draw_pictures(net: Gan, spec: GenerationSpec, classes: list[str]) -> Iterator[Tensor]:
    """Pictures (C, H, W) in 0..1, of the class that is asked for or of all in turn."""
    classes_N = _classes_of(net, spec, classes)
    z_NZ = torch.randn(spec.count, net.generator.latent_dim)
    for first in range(0, spec.count, _BATCH):
        part = slice(first, first + _BATCH)
        yield from net(z_NZ[part], None if classes_N is None else classes_N[part])


def _classes_of(net: Gan, spec: GenerationSpec, classes: list[str]) -> Tensor | None:
    num_classes = net.generator.num_classes
    if not num_classes:
        if spec.label is not None:
            raise CannotTrain(
                "this model can't be asked for a class", "Leave label out, or train with conditional."
            )
        return None
    if spec.label is None:
        return torch.arange(spec.count) % num_classes
    if spec.label not in classes[:num_classes]:
        raise CannotTrain(
            f"there is no class {spec.label!r}", f"Known are {', '.join(classes[:num_classes])}."
        )
    return torch.full((spec.count,), classes.index(spec.label))


def _save_picture(path: Path, x_CHW: Tensor) -> None:
    pixels = x_CHW.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path, "PNG")


def write_texts(net: LanguageModel, tokenizer: Tokenizer, spec: GenerationSpec) -> Iterator[str]:
    """The prompt and what is drawn after it, until there is an end token or enough."""
    # Words have nothing that says how they are put together but the space between them.
    is_open = bool(spec.prompt) and not spec.prompt[-1].isspace()
    between = " " if is_open and tokenizer.decoder is None else ""
    given = tokenizer.encode(spec.prompt).ids or [START]
    for first in range(0, spec.count, _BATCH):
        for ids in _continued(net, given, min(_BATCH, spec.count - first), spec):
            yield spec.prompt + between + tokenizer.decode(ids)


def _continued(net: LanguageModel, given: list[int], count: int, spec: GenerationSpec) -> list[list[int]]:
    """Tokens after ``given``, ``count`` times."""
    out: LanguageOutput = net(torch.tensor([given]).expand(count, -1))
    written: list[Tensor] = []
    has_ended_B = torch.zeros(count, dtype=torch.bool)
    while len(written) < spec.length and not bool(has_ended_B.all()):
        logits_BV = out.logits_BLV[:, -1].float()
        # A text holds no padding, nothing unknown and no second beginning.
        logits_BV[:, [PADDING, UNKNOWN, START]] = -torch.inf
        token_B = draw(logits_BV, temperature=spec.temperature, top_p=spec.top_p)
        has_ended_B = has_ended_B | (token_B == END)
        written.append(torch.where(has_ended_B, END, token_B))
        out = net(token_B.unsqueeze(1), out.hidden)
    rows = torch.stack(written, 1).tolist()
    return [row[: row.index(END)] if END in row else row for row in rows]


def _words(artifact: Artifact) -> Tokenizer:
    return cast("Tokenizer", artifact.tokenizer)
