"""What the forward passes of an epoch add up to, without asking the device at each step.

Losses and small outputs are kept as they come and folded many steps at a time: one transfer instead of one a
step, and no second forward pass for a metric.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workers.train.base.metrics import Metric

#: Outputs with more numbers than this are measured at once and not kept.
_KEEP_NUMBERS = 1 << 16
_NOTHING: Mapping[str, Tensor] = {}
#: Further values with such names have to be finite as well: the losses of several networks.
GUARDED = "loss"


class Step(NamedTuple):
    """What one forward pass gives.

    ``loss`` is a scalar with a graph; ``outputs`` and ``targets`` feed the metric, when there is one;
    ``values`` are further scalars to show, as tensors; ``rows`` is the weight of the batch in means.
    """

    loss: Tensor
    outputs: Tensor | None = None
    targets: Tensor | None = None
    values: Mapping[str, Tensor] = _NOTHING
    rows: int = 1


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite, ``num_later`` batches before the last one that was added."""

    def __init__(self, num_later: int, loss: float) -> None:
        super().__init__(f"loss {loss}, {num_later} batches ago")
        self.num_later = num_later
        self.loss = loss


class Tally:
    """Sums since `reset`. ``last_loss`` and the means are as of the last `fold`."""

    def __init__(self, metric: Metric | None, *, stop_when_not_finite: bool = True) -> None:
        self.metric = metric
        self._guards = stop_when_not_finite
        self._losses: list[Tensor] = []
        self._rows: list[int] = []
        self._values: list[Mapping[str, Tensor]] = []
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.last_loss = math.nan
        self._weight = 0
        self._loss_sum = 0.0
        self._value_sums: dict[str, float] = {}
        for kept in (self._losses, self._rows, self._values, self._pairs):
            kept.clear()
        if self.metric is not None:
            self.metric.reset()

    def add(self, step: Step) -> None:
        """Keep what one forward pass gave."""
        self._losses.append(step.loss.detach())
        self._rows.append(step.rows)
        if step.values:
            self._values.append(step.values)
        if self.metric is not None and step.outputs is not None and step.targets is not None:
            outputs = step.outputs.detach()
            if outputs.numel() > _KEEP_NUMBERS:
                self.metric.update(outputs, step.targets)
            else:
                self._pairs.append((outputs, step.targets))

    def fold(self) -> None:
        """Take what was kept into the sums.

        Raises:
            NonFiniteLoss: a loss, or a value whose name begins with ``loss``, was NaN or infinite.
        """
        if not self._losses:
            return
        losses = torch.stack([loss.float() for loss in self._losses]).tolist()
        rows = self._rows.copy()
        names = list(self._values[0]) if self._values else []
        columns = [[step[name].detach().float() for step in self._values] for name in names]
        values = torch.stack([scalar for column in columns for scalar in column]).tolist() if columns else []
        self._fold_metric()
        self._losses.clear()
        self._rows.clear()
        self._values.clear()
        if self._guards:
            watched = [number for number, name in enumerate(names) if name.startswith(GUARDED)]
            _ensure_finite([losses, *(values[at * len(rows) : (at + 1) * len(rows)] for at in watched)])
        # Added one by one: the sums don't depend on when somebody looked.
        for loss, weight in zip(losses, rows, strict=True):
            self._loss_sum += loss * weight
            self._weight += weight
        self.last_loss = losses[-1]
        for at, name in enumerate(names):
            column_values = values[at * len(rows) : (at + 1) * len(rows)]
            total = self._value_sums.get(name, 0.0)
            for value, weight in zip(column_values, rows, strict=True):
                total += value * weight
            self._value_sums[name] = total

    def _fold_metric(self) -> None:
        if self.metric is None or not self._pairs:
            return
        shapes = {outputs.shape[1:] + targets.shape[1:] for outputs, targets in self._pairs}
        if len(shapes) == 1:
            outputs, targets = zip(*self._pairs, strict=True)
            self.metric.update(torch.cat(outputs), torch.cat(targets))
        else:
            for outputs_, targets_ in self._pairs:
                self.metric.update(outputs_, targets_)
        self._pairs.clear()

    @property
    def mean_loss(self) -> float:
        """Mean by rows, NaN before anything was folded."""
        return self._loss_sum / self._weight if self._weight else math.nan

    def means(self) -> dict[str, float]:
        """The means of the further values."""
        return (
            {name: total / self._weight for name, total in self._value_sums.items()} if self._weight else {}
        )

    def sums(self) -> list[float]:
        """Weight, loss and values as sums, to be added over processes."""
        return [float(self._weight), self._loss_sum, *self._value_sums.values()]

    def take_sums(self, sums: list[float]) -> None:
        """Put sums over processes in their place."""
        self._weight, self._loss_sum = int(sums[0]), sums[1]
        self._value_sums = dict(zip(self._value_sums, sums[2:], strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The sums so far; `fold` first."""
        return {
            "last_loss": self.last_loss,
            "weight": self._weight,
            "loss_sum": self._loss_sum,
            "value_sums": self._value_sums,
            "metric": None if self.metric is None else self.metric.totals,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.last_loss = state["last_loss"]
        self._weight = state["weight"]
        self._loss_sum = state["loss_sum"]
        self._value_sums = dict(state["value_sums"])
        if self.metric is not None:
            self.metric.totals = state["metric"]


def _ensure_finite(losses: Sequence[Sequence[float]]) -> None:
    for at, now in enumerate(zip(*losses, strict=True)):
        bad = next((loss for loss in now if not math.isfinite(loss)), None)
        if bad is not None:
            raise NonFiniteLoss(len(losses[0]) - 1 - at, bad)
