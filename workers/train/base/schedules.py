"""Learning rates over time: Towhee's six schedules as pure factors, and torch's by name.

A factor is a function of the number of updates done; the rate is the optimizer's own times the factor.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from torch import optim

from workers.nets.validation import InvalidConfig, Problem
from workers.train.configs import ScheduleOptions


class Span(NamedTuple):
    """How many updates there will be, and how many of them warm up."""

    num_updates: int
    num_warmup: int

    def progress(self, update: int) -> float:
        """0 at the end of the warm-up, 1 at the last update."""
        return min(1.0, (update - self.num_warmup) / max(1, self.num_updates - self.num_warmup))


class LearningRate(Protocol):
    """What the trainer asks of a schedule; torch's classes satisfy it."""

    def step(self) -> None:
        """One update was done."""

    def get_last_lr(self) -> list[float]:
        """The rate of each parameter group now."""

    def state_dict(self) -> dict[str, Any]:
        """All of its state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stand where another stood."""


Factor = Callable[[float], float]


def linear(progress: float) -> float:
    """Down to 0 in a straight line."""
    return 1 - progress


def cosine(progress: float, *, num_cycles: float = 0.5) -> float:
    """Half a cosine down to 0 (Loshchilov and Hutter, 2017)."""
    return max(0.0, 0.5 * (1 + math.cos(2 * math.pi * num_cycles * progress)))


def cosine_with_restarts(progress: float, *, num_cycles: int = 1) -> float:
    """Half a cosine again and again, each time from the full rate."""
    return 0.0 if progress >= 1 else 0.5 * (1 + math.cos(math.pi * (num_cycles * progress % 1)))


def polynomial(progress: float, *, power: float = 1.0, end: float = 1e-7) -> float:
    """Down to the share ``end`` of the rate along a power."""
    return float((1 - end) * (1 - progress) ** power + end)


def constant(progress: float) -> float:
    """Always the full rate."""
    del progress
    return 1.0


FACTORS: Mapping[str, Callable[..., float]] = MappingProxyType(
    {
        "linear": linear,
        "cosine": cosine,
        "cosine_with_restarts": cosine_with_restarts,
        "polynomial": polynomial,
        "constant": constant,
        "constant_with_warmup": constant,
    }
)


class FactorSchedule:
    """A factor over an optimizer's rates, with a linear warm-up from 0."""

    def __init__(self, optimizer: optim.Optimizer, factor: Factor, span: Span) -> None:
        self._optimizer = optimizer
        self._factor = factor
        self._span = span
        self._update = 0
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._set()

    def factor(self, update: int) -> float:
        """The factor after so many updates."""
        if update < self._span.num_warmup:
            return update / max(1, self._span.num_warmup)
        return self._factor(self._span.progress(update))

    def step(self) -> None:
        """One update was done."""
        self._update += 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """The rate of each parameter group now."""
        return [group["lr"] for group in self._optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Updates done, and the rates that the factor is applied to."""
        return {"update": self._update, "rates": self._rates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; the length of the run is this run's."""
        self._update = state["update"]
        self._rates = list(state["rates"])
        self._set()

    def _set(self) -> None:
        factor = self.factor(self._update)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor


def make_schedule(
    optimizer: optim.Optimizer, wanted: ScheduleOptions, num_updates: int | None
) -> tuple[LearningRate, bool]:
    """The schedule and whether it ever changes a rate.

    Raises:
        InvalidConfig: it needs the length of the run, which nobody knows, or its arguments are wrong.
    """
    path = ("lr_scheduler_type",)
    warmup = wanted.warmup_steps
    moves = wanted.name not in {"constant", "constant_with_warmup"}
    if wanted.name in FACTORS:
        if num_updates is None and (moves or wanted.warmup_ratio):
            raise InvalidConfig([Problem(path, "needs max_steps: the data does not say how long it is")])
        if not warmup:
            warmup = math.ceil((num_updates or 0) * wanted.warmup_ratio)
        if wanted.name == "constant":
            warmup = 0
        function, arguments = FACTORS[wanted.name], wanted.arguments
        try:
            function(0.0, **arguments)
        except TypeError as error:
            raise InvalidConfig([Problem(path, str(error))]) from error
        span = Span(num_updates or 0, warmup)
        return FactorSchedule(
            optimizer, lambda progress: function(progress, **arguments), span
        ), moves or warmup > 0
    try:
        return getattr(optim.lr_scheduler, wanted.name)(optimizer, **wanted.arguments), True
    except (TypeError, ValueError) as error:
        raise InvalidConfig([Problem(path, f"{wanted.name}: {error}")]) from error
