"""Options of FineTuneTrainer."""

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from workers.nets.validation import Problem
from workers.train.configs.base import Natural, TrainerOptions

Fraction = Annotated[float, Meta(gt=0, le=1)]


class FineTuneOptions(TrainerOptions, frozen=True):
    """How much of a learnt encoder learns on, and how fast.

    Attributes:
        num_classes: labels are 0 to this. May be left out when the model has a classifier already.
        method: probe trains the classifier alone; full trains the encoder, too, but for its frozen stages.
        frozen_stages: so many of the encoder's lowest stages stay as they are.
        backbone_rate: the learning rate of the highest stage, as a share of the classifier's.
        rate_decay: each stage learns at this share of the rate of the one above (Howard and Ruder, 2018).
        batch_norm: whether statistics of batch norms that learn follow the new data; those of frozen stages
            never do.
        dropout: before the classifier.
        augment: what happens to pictures at random in training: mirror, or also a move by up to an eighth of
            a side.
        cache: what the frozen stages give is computed once, before training, and kept in memory. Loaders and
            iterables are not cached.
    """

    num_classes: Annotated[int, Meta(ge=2, le=10_000)] | None = None
    method: Literal["probe", "full"] = "full"
    frozen_stages: Natural = 0
    backbone_rate: Fraction = 0.1
    rate_decay: Fraction = 1.0
    batch_norm: Literal["frozen", "trained"] = "frozen"
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    augment: Literal["none", "mirror", "shift_and_mirror"] = "none"
    cache: bool = True

    @property
    def freezes(self) -> bool:
        """Whether any stage of the encoder learns nothing."""
        return self.method == "probe" or self.frozen_stages > 0

    def problems(self) -> Iterator[Problem]:
        """What contradicts itself."""
        if self.method == "probe":
            for name in ("frozen_stages", "backbone_rate", "rate_decay", "batch_norm"):
                if getattr(self, name) != getattr(_DEFAULTS, name):
                    yield Problem((name,), "has no meaning for probe, where the encoder learns nothing")
        if self.augment != "none" and self.freezes and self.cache:
            yield Problem(("cache",), "has to be off with augment: what is computed once never changes")


_DEFAULTS = FineTuneOptions()
