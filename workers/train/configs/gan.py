"""Options of GANTrainer."""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from workers.nets.validation import Problem
from workers.train.configs.base import Natural, OptimizerOptions, Positive, Share, TrainerOptions

NotNegative = Annotated[float, Meta(ge=0)]
_NETWORKS = {"g", "d"}
_PENALTY = 10.0


def _average() -> dict[str, Share]:
    return {"g": 0.995}


def _optimizers() -> dict[str, OptimizerOptions]:
    # DCGAN's (Radford et al., 2016): with a longer memory the two nets overshoot each other.
    adam = OptimizerOptions(arguments={"betas": [0.5, 0.999]})
    return {"g": adam, "d": adam}


class GANOptions(TrainerOptions, frozen=True):
    """How generator (network ``g``) and discriminator (``d``) play. A step is one update of the generator.

    Attributes:
        loss: non_saturating (Goodfellow et al., 2014), least_squares (LSGAN), hinge (for a net with spectral
        norm) or wasserstein_gp (WGAN-GP).
        n_critic: updates of the discriminator for one of the generator; each takes its own batch.
        gradient_penalty: weight of WGAN-GP's penalty.
        r1, r1_every: weight of the slope at real pictures, 0 for none, and at which updates it is added, then
        as many times as strong (Karras et al., 2020).
        augment: changes made to all pictures that the discriminator sees (DiffAugment), in this order.
        ema: as elsewhere; by default the generator alone is averaged.
        num_samples: pictures of the grid that each evaluation reports, 0 for none.
        fid_samples: pictures made in each evaluation to be compared with its data, 0 for none.
        judge_epochs: for how long a judge is fitted when the trainer was given none.
        collapse, collapse_after: what to do when the pictures are no closer to the real ones than one average
        picture would be, or hardly differ; and after how many steps that is asked, by default 0.15 divided
        by the generator's rate, but at least 150.
    """

    loss: Literal["non_saturating", "least_squares", "hinge", "wasserstein_gp"] = "non_saturating"
    n_critic: Positive = 1
    gradient_penalty: NotNegative = _PENALTY
    r1: NotNegative = 0.0
    r1_every: Positive = 1
    augment: tuple[Literal["color", "translation", "cutout"], ...] = ()
    ema: Share | dict[str, Share] | None = msgspec.field(default_factory=_average)
    optimizers: dict[str, OptimizerOptions] = msgspec.field(default_factory=_optimizers)
    num_samples: Annotated[int, Meta(ge=0, le=256)] = 64
    fid_samples: Natural = 0
    judge_epochs: Positive = 6
    collapse: Literal["ignore", "warn", "stop"] = "warn"
    collapse_after: Natural | None = None

    @property
    def is_penalised(self) -> bool:
        """Whether the slope of the discriminator is part of its loss."""
        return self.loss == "wasserstein_gp" or self.r1 > 0

    def problems(self) -> Iterator[Problem]:
        """What contradicts itself."""
        yield from self._penalty_problems()
        if len(set(self.augment)) < len(self.augment):
            yield Problem(("augment",), "names a change twice")
        if self.fid_samples == 1:
            yield Problem(("fid_samples",), "is 0 for none, or at least 2")
        if self.collapse == "ignore" and self.collapse_after is not None:
            yield Problem(("collapse_after",), "has no meaning when a collapse is ignored")
        for field in ("ema", "grad_clip", "optimizers", "schedules"):
            given = getattr(self, field)
            for name in sorted(set(given) - _NETWORKS) if isinstance(given, dict) else ():
                yield Problem((field, name), "is not a network; they are g and d")

    def _penalty_problems(self) -> Iterator[Problem]:
        if self.loss != "wasserstein_gp" and self.gradient_penalty != _PENALTY:
            yield Problem(("gradient_penalty",), f"has no meaning for {self.loss}")
        if self.loss == "wasserstein_gp" and self.r1:
            yield Problem(("r1",), "is another penalty than that of wasserstein_gp: choose one")
        if self.r1_every > 1 and not self.r1:
            yield Problem(("r1_every",), "has no meaning without r1")
        if self.is_penalised and self.precision == "float16":
            yield Problem(("precision",), "slopes are too small for float16: say bfloat16 or float32")
        if self.is_penalised and self.compile is not None:
            yield Problem(("compile",), "gives nets whose slopes can't be differentiated: leave it out")
