"""Options of SemiSupervisedGANTrainer."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from workers.nets.validation import Problem
from workers.train.configs.base import Positive, Share
from workers.train.configs.gan import GANOptions, NotNegative


def _averages() -> dict[str, Share]:
    return {"g": 0.995, "d": 0.99}


class SemiSupervisedGANOptions(GANOptions, frozen=True):
    """How a classifier learns from telling real rows from generated ones (Salimans et al., 2016).

    Attributes:
        lambda_u: weight of telling real from generated; the weight of the labels is 1.
        unlabelled_ratio: rows without a label for each labelled one in a batch; as many are generated.
        matching: how far apart the mean features of real and generated rows are, which is the generator's
            loss: square or absolute.
        ema: as elsewhere; by default both nets are averaged.
        collapse: as for GANTrainer, but off: a generator that matches mean features is less varied than real
            rows are, and the classifier is none the worse for it.
    """

    lambda_u: NotNegative = 1.0
    unlabelled_ratio: Positive = 1
    matching: Literal["square", "absolute"] = "square"
    ema: Share | dict[str, Share] | None = msgspec.field(default_factory=_averages)
    collapse: Literal["ignore", "warn", "stop"] = "ignore"

    def problems(self) -> Iterator[Problem]:
        """What contradicts itself, or another game's rules."""
        yield from super().problems()
        if self.loss != "non_saturating":
            yield Problem(("loss",), "has no meaning here: the generator matches features")
        if self.is_penalised:
            yield Problem(("r1",), "has no meaning for a score of several classes")
