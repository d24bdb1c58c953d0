"""What a trainer tells whoever started it. It calls one function with these facts and knows no bus."""

from collections.abc import Callable
from typing import Literal

import msgspec

Reason = Literal["epochs", "max_steps", "max_seconds", "early_stopping", "asked"]


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """Sent at most a few times a second, always after the first and the last step.

    ``num_steps`` is None when nobody can know the end; ``metrics`` are means since the epoch began.
    """

    step: int
    epoch: int
    num_steps: int | None
    seconds: float
    metrics: dict[str, float]


class Evaluated(msgspec.Struct, frozen=True, kw_only=True, tag="evaluated"):
    """One evaluation; ``is_best`` when the watched metric was never better."""

    step: int
    epoch: int
    metrics: dict[str, float]
    is_best: bool


class Samples(msgspec.Struct, frozen=True, kw_only=True, tag="samples"):
    """Something to look at: a grid of pictures as PNG bytes, or lines of text in UTF-8."""

    step: int
    name: str
    media_type: Literal["image/png", "text/plain"]
    content: bytes


class CheckpointSaved(msgspec.Struct, frozen=True, kw_only=True, tag="checkpoint_saved"):
    """A checkpoint is complete on disk. Sent from the writer's thread."""

    step: int
    path: str
    byte_size: int


class Warned(msgspec.Struct, frozen=True, kw_only=True, tag="warned"):
    """Training goes on, but somebody should look: ``code`` is stable, ``message`` is for people."""

    step: int
    code: str
    message: str


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    """Training ended on its own terms."""

    step: int
    epoch: int
    reason: Reason


Fact = Progress | Evaluated | Samples | CheckpointSaved | Warned | Finished
Report = Callable[[Fact], None]


def ignore(fact: Fact) -> None:
    """The report of a trainer that nobody listens to."""
    del fact
