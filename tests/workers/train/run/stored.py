"""Real data as a prepared data set gives it, small enough for tests."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bus.messages.training import TrainerParameters, TrainingSpec
from tests.support.training import difference, run, saved_at
from workers.nets.contracts import ImageInput
from workers.nets.manifest import load_artifact
from workers.train.data import load_images, load_texts
from workers.train.export import EncodingTrainer
from workers.train.report import Evaluated, Fact, Report, ignore
from workers.train.run import build_trainer


class StoredFacts(NamedTuple):
    kind: str
    splits: dict[str, int]
    classes: Sequence[str] = ()
    modality: str | None = "TEXT"
    shape: Sequence[int] | None = None
    is_running_text: bool = False
    sha256: str = "0" * 64

    @property
    def num_rows(self) -> int:
        return sum(self.splits.values())


class Stored:
    """Rows by split; pictures are uint8 (N, C, H, W)."""

    def __init__(self, facts: StoredFacts, rows: Mapping[str, Any], labels: Mapping[str, Tensor]) -> None:
        self.facts = facts
        self.rows = rows
        self._labels = labels

    def images(self, split: str, *, side: int, channels: Literal[1, 3]) -> Tensor:
        return ImageInput(side=side, channels=channels).pixels(list(self.rows[split]))

    def labels(self, split: str) -> Tensor:
        return self._labels.get(split, torch.full((self.facts.splits[split],), -1))

    def texts(self, split: str) -> list[str]:
        return list(self.rows[split])

    def tagged(self, split: str) -> list[tuple[list[str], list[str]]]:
        return list(self.rows[split])

    def pairs(self, split: str) -> list[tuple[str, str]]:
        return list(self.rows[split])

    def numbers(self, split: str) -> Tensor:
        found: Tensor = self.rows[split]
        return found


def stored(
    kind: str,
    train: Any,
    test: Any,
    labels: tuple[Tensor, Tensor] | None = None,
    classes: Sequence[str] = (),
    **facts: Any,
) -> Stored:
    splits = {"train": len(train), "test": len(test)}
    known = {} if labels is None else {"train": labels[0], "test": labels[1]}
    rows = {name: rows for name, rows in (("train", train), ("test", test)) if len(rows)}
    kept = {name: count for name, count in splits.items() if count}
    return Stored(StoredFacts(kind, kept, tuple(classes), **facts), rows, known)


@cache
def pictures(name: str, num_train: int, num_test: int, *, labelled: bool = True) -> Stored:
    found = load_images(name)
    if num_train < len(found.train_x):
        found = found.part(num_train, num_test)
    labels = (found.train_y, found.test_y) if labelled else None
    channels, height, width = found.train_x.shape[1:]
    return stored(
        "images",
        found.train_x,
        found.test_x,
        labels,
        found.classes if labelled else (),
        modality="IMAGE",
        shape=(height, width, channels),
    )


@cache
def texts(name: str, num_train: int, num_test: int, *, labelled: bool = True) -> Stored:
    found = load_texts(name)
    train, test = found.train[:num_train], found.test[:num_test]
    labels = tuple(torch.tensor([label for _, label in part]) for part in (train, test))
    return stored(
        "texts",
        [text for text, _ in train],
        [text for text, _ in test],
        (labels[0], labels[1]) if labelled else None,
        found.classes if labelled else (),
    )


def built(
    parameters: TrainerParameters,
    data: Stored,
    folder: Path,
    report: Report = ignore,
    *,
    parent: Path | None = None,
    **spec: Any,
) -> EncodingTrainer:
    given = TrainingSpec(name="mine", parameters=parameters, **spec)
    return build_trainer(given, data, folder, report, parent=parent, device="cpu")


def trained(
    parameters: TrainerParameters, data: Stored, folder: Path, **more: Any
) -> tuple[EncodingTrainer, list[Fact]]:
    """A trainer that has trained, and all that it said."""
    said: list[Fact] = []
    trainer = built(parameters, data, folder / "run", said.append, **more)
    trainer.train()
    return trainer, said


def curve(said: Sequence[Fact], name: str = "eval_epoch_loss") -> list[float]:
    """A number in each evaluation."""
    return [fact.metrics[name] for fact in said if isinstance(fact, Evaluated)]


def untrained_loss(parameters: TrainerParameters, data: Stored, folder: Path, **spec: Any) -> float:
    """The loss with the weights that training begins with."""
    return float(built(parameters, data, folder / "untrained", **spec).evaluate()["eval_epoch_loss"])


def check_vectors(trainer: EncodingTrainer, folder: Path, items: Sequence[Any]) -> None:
    """The exported encoder gives the vectors of the trainer's own net, with its averaged weights."""
    artifact = load_artifact(folder / "encoder")
    with trainer.averaged_weights(), torch.no_grad():
        encoder = trainer.encoder()
        expected = encoder.net.eval().encode(artifact.prepare(items)).numpy()
    if encoder.normalize:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)

    vectors = artifact.embed(items)

    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-6)
    assert (len(items), artifact.manifest.dimension) == vectors.shape
    # Different things have different vectors.
    assert vectors.std(0).max() > 1e-4


def check_resume(make: Callable[[Path], EncodingTrainer], folder: Path, batch: int) -> None:
    """Broken off after a batch, the rest comes out the same in a trainer that was built anew."""
    whole = run(make(folder / "whole"))
    run(make(folder / "broken"), save_at={batch}, kill_at=batch)

    resumed = run(make(folder / "resumed"), saved_at(folder / "broken", batch))

    assert 0.0 == difference(whole, resumed)
