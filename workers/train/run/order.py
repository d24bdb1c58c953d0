"""What is asked of the builders, and what they ask of prepared data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bus.messages.training import TrainingSpec
from workers.nets.manifest import Artifact
from workers.train.report import Report
from workers.train.run.problems import CannotTrain

Split = Literal["train", "test"]
TRAIN: Split = "train"
TEST: Split = "test"


class Facts(Protocol):
    """What is known of a data set before its rows are read."""

    @property
    def kind(self) -> str | None:
        """Images, texts, tagged, pairs or numbers."""

    @property
    def modality(self) -> str | None:
        """TEXT or IMAGE, where an encoder of it embeds either."""

    @property
    def sha256(self) -> str:
        """Digest of the rows."""

    @property
    def num_rows(self) -> int:
        """All of them."""

    @property
    def classes(self) -> Sequence[str]:
        """Names by label; of tagged sentences, the tags."""

    @property
    def splits(self) -> Mapping[str, int]:
        """Rows by the name of the split."""

    @property
    def shape(self) -> Sequence[int] | None:
        """(H, W, C) of pictures that all have the same, (F,) of numbers."""

    @property
    def is_running_text(self) -> bool:
        """Whether the texts are pieces of one, which they give again when put together as they are."""


class Prepared(Protocol):
    """A valid data set, split for training and testing; the rows of a split are always in the same order."""

    @property
    def facts(self) -> Facts:
        """What is known of it."""

    def images(self, split: Split, *, side: int, channels: Literal[1, 3]) -> Tensor:
        """Pictures (N, C, side, side), uint8."""

    def labels(self, split: Split) -> Tensor:
        """Labels (N,) int64, -1 where there is none."""

    def texts(self, split: Split) -> list[str]:
        """Texts."""

    def tagged(self, split: Split) -> list[tuple[list[str], list[str]]]:
        """Tokens and the tag of each."""

    def pairs(self, split: Split) -> list[tuple[str, str]]:
        """A text and what it turns into."""

    def numbers(self, split: Split) -> Tensor:
        """Rows (N, F) float32."""


class Order(NamedTuple):
    """One trainer that is to be built.

    ``parent`` is the whole net of an earlier model, whose weights it begins with; ``device`` None takes a
    GPU if there is one. ``processes`` share each batch.
    """

    spec: TrainingSpec
    prepared: Prepared
    folder: Path
    report: Report
    parent: Artifact | None = None
    device: str | None = None
    checkpoint_every_s: float = 60.0
    processes: int = 1

    @property
    def facts(self) -> Facts:
        """What is known of the data."""
        return self.prepared.facts

    @property
    def num_classes(self) -> int:
        """Labels are 0 to this."""
        return len(self.facts.classes)

    def num_rows(self, split: Split) -> int:
        """Rows of a split; none where there is no such split."""
        return self.facts.splits.get(split, 0)

    def texts(self, split: Split) -> list[str]:
        """Texts of a split."""
        return self.prepared.texts(split) if self.num_rows(split) else []

    def labels(self, split: Split) -> Tensor:
        """Labels (N,) of a split, -1 where there is none."""
        return self.prepared.labels(split) if self.num_rows(split) else torch.empty(0, dtype=torch.long)

    def ensure_kind(self, learns: str, *kinds: str) -> str:
        """The kind of the data, if it is one of these.

        Raises:
            CannotTrain: it is another.
        """
        kind = self.facts.kind or "unknown"
        if kind not in kinds:
            raise CannotTrain(
                f"{learns} learns from {' or '.join(kinds)}, and the data set is one of {kind}",
                "Choose another trainer or another data set.",
            )
        return kind

    def tokenizer_of_parent(self) -> Tokenizer | None:
        """The words of the model that this one begins with: its weights know no others."""
        return None if self.parent is None else self.parent.tokenizer
