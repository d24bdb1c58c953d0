"""Metrics that add up on the device and are read only when somebody asks.

Each keeps plain sums, so that sums of processes and of resumed runs add up to the same value.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from workers.nets.validation import InvalidConfig, Problem


class Metric(ABC):
    """Sums of what was seen since ``reset``; ``totals`` is all of its state."""

    #: Whether more is better.
    higher_is_better = True

    def __init__(self) -> None:
        self.totals: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add one batch (or several, joined along the first axis). No value leaves the device."""
        counted = self._count(outputs, targets)
        self.totals = counted if self.totals is None else self._joined(self.totals, counted)

    def compute(self) -> float | None:
        """The metric of all that was added, None before anything was."""
        return None if self.totals is None else self._value(self.totals)

    def reset(self) -> None:
        """Forget everything."""
        self.totals = None

    def to(self, device: torch.device) -> "Metric":
        """Move the sums."""
        self.totals = None if self.totals is None else self.totals.to(device)
        return self

    def _joined(self, totals: Tensor, counted: Tensor) -> Tensor:
        return totals + counted

    @abstractmethod
    def _count(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sums of one batch, float64 or int64."""

    @abstractmethod
    def _value(self, totals: Tensor) -> float:
        """The metric of these sums."""


class Accuracy(Metric):
    """Share of targets among the ``top_k`` greatest outputs. Outputs (B, K, ...), targets (B, ...).

    One-column outputs are taken as logits of a yes. Targets equal to ``ignore_index`` are left out.
    """

    def __init__(self, top_k: int = 1, ignore_index: int = -100) -> None:
        super().__init__()
        self._top_k = top_k
        self._ignore_index = ignore_index

    def _count(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.shape == targets.shape or outputs.shape[1:] == (1,):
            right = (outputs.reshape(targets.shape) > 0) == targets.bool()
        elif self._top_k == 1:
            right = outputs.argmax(1) == targets
        else:
            right = (outputs.topk(self._top_k, 1).indices == targets.unsqueeze(1)).any(1)
        counted = targets != self._ignore_index
        return torch.stack([(right & counted).sum(), counted.sum()])

    def _value(self, totals: Tensor) -> float:
        right, counted = totals.tolist()
        return float(right / max(1, counted))


class _Confusion(Metric):
    """The base of metrics on the table of (target, guess) counts."""

    def __init__(self, average: str = "macro", ignore_index: int = -100) -> None:
        super().__init__()
        if average not in {"macro", "micro"}:
            raise ValueError(f"average is macro or micro, not {average!r}")
        self._average = average
        self._ignore_index = ignore_index

    def _count(self, outputs: Tensor, targets: Tensor) -> Tensor:
        num_classes = outputs.shape[1]
        guesses, targets = outputs.argmax(1).flatten(), targets.flatten()
        kept = targets != self._ignore_index
        pairs = targets[kept] * num_classes + guesses[kept]
        return pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes)

    def _value(self, totals: Tensor) -> float:
        table = totals.double()
        hits, wanted, guessed = table.diagonal(), table.sum(1), table.sum(0)
        if self._average == "micro":
            hits, wanted, guessed = hits.sum(), wanted.sum(), guessed.sum()
        seen = (wanted + guessed) > 0
        return float(self._score(hits, wanted, guessed)[seen].mean())

    @abstractmethod
    def _score(self, hits: Tensor, wanted: Tensor, guessed: Tensor) -> Tensor:
        """The score of each class."""


class F1Score(_Confusion):
    """The harmonic mean of precision and recall, averaged over the classes that occur."""

    def _score(self, hits: Tensor, wanted: Tensor, guessed: Tensor) -> Tensor:
        return 2 * hits / (wanted + guessed).clamp(min=1)


class Precision(_Confusion):
    """Share of guesses that are right."""

    def _score(self, hits: Tensor, wanted: Tensor, guessed: Tensor) -> Tensor:
        del wanted
        return hits / guessed.clamp(min=1)


class Recall(_Confusion):
    """Share of targets that were found."""

    def _score(self, hits: Tensor, wanted: Tensor, guessed: Tensor) -> Tensor:
        del guessed
        return hits / wanted.clamp(min=1)


class MeanSquaredError(Metric):
    """Mean over all numbers of the squared difference."""

    higher_is_better = False

    def _count(self, outputs: Tensor, targets: Tensor) -> Tensor:
        error = (outputs.double() - targets.double()).square().sum()
        return torch.stack([error, torch.full_like(error, outputs.numel())])

    def _value(self, totals: Tensor) -> float:
        error, counted = totals.tolist()
        return float(error / max(1.0, counted))


class MeanAbsoluteError(MeanSquaredError):
    """Mean over all numbers of the absolute difference."""

    def _count(self, outputs: Tensor, targets: Tensor) -> Tensor:
        error = (outputs.double() - targets.double()).abs().sum()
        return torch.stack([error, torch.full_like(error, outputs.numel())])


METRICS: Mapping[str, Callable[..., Metric]] = MappingProxyType(
    {
        "Accuracy": Accuracy,
        "F1": F1Score,
        "F1Score": F1Score,
        "Precision": Precision,
        "Recall": Recall,
        "MeanSquaredError": MeanSquaredError,
        "MeanAbsoluteError": MeanAbsoluteError,
    }
)


def make_metric(wanted: str | Mapping[str, Any] | None) -> Metric | None:
    """A metric by name, or by ``{"name_": name, **arguments}``; None for none.

    Raises:
        InvalidConfig: the name or an argument is not known, with the path ``metric``.
    """
    if wanted is None or (isinstance(wanted, str) and wanted in {"no", "None", "null"}):
        return None
    name = wanted if isinstance(wanted, str) else wanted["name_"]
    arguments = (
        {} if isinstance(wanted, str) else {key: value for key, value in wanted.items() if key != "name_"}
    )
    if name not in METRICS:
        raise InvalidConfig([Problem(("metric",), f"no metric {name!r}; known are {', '.join(METRICS)}")])
    try:
        return METRICS[name](**arguments)
    except (TypeError, ValueError) as error:
        raise InvalidConfig([Problem(("metric",), str(error))]) from error
