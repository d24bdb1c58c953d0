"""Whether a generator has collapsed, seen from its training batches alone.

Pictures are averaged onto a coarse grid, where a window of batches is enough to know their mean and
covariance.
Legend: B batch, C channels, H height, W width.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from torch import Tensor

from workers.train.base import distributed
from workers.train.fid import Moments, frechet_distance

#: Steps that are looked at together, and places along each axis of the coarse grid.
WINDOW, _GRID = 25, 4
#: The distance, as a share of the real pictures' variance, that one fixed average picture has.
_FARTHEST = 1.0
#: Least variance of generated pictures as a share of the real ones'.
_LEAST_SPREAD = 0.3
#: Once told, it is told again only after the distance has been below this.
_WELL = 0.5


class Seen(NamedTuple):
    """What a window showed, both as shares of the real pictures' variance.

    ``distance`` is the squared Frechet distance of the coarse pictures, ``spread`` the variance of the
    generated ones.
    """

    distance: float
    spread: float

    @property
    def is_collapsed(self) -> bool:
        """Whether the pictures are worse than one average picture shown again and again, or nearly that."""
        return not (self.distance <= _FARTHEST and self.spread >= _LEAST_SPREAD)


class CollapseWatch:
    """Takes the batches of every step of the generator; the first ``after`` steps don't count."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.last: Seen | None = None
        self._told = False
        self._steps = 0
        self._real: Moments | None = None
        self._fake: Moments | None = None

    def add(self, real_BCHW: Tensor, fake_BCHW: Tensor) -> bool:
        """Take one step's pictures in; True when the window is full and `look` has something to say."""
        real, fake = _coarse(real_BCHW), _coarse(fake_BCHW)
        if self._real is None or self._fake is None:
            self._real, self._fake = (Moments(rows.shape[1], rows.device) for rows in (real, fake))
        self._real.add(real)
        self._fake.add(fake)
        self._steps += 1
        return self._steps % WINDOW == 0

    def look(self, step: int, num_processes: int = 1) -> Seen | None:
        """Close the window; what it showed if that is a collapse which was not told yet."""
        real, fake = self._real, self._fake
        if real is None or fake is None:
            return None
        self._real = self._fake = None
        if num_processes > 1:
            for tensor in (*real.tensors, *fake.tensors):
                distributed.sum_in_place(tensor)
        self.last = seen = _compared(real, fake)
        if seen.distance < _WELL:
            self._told = False
        if step <= self.after or self._told or not seen.is_collapsed:
            return None
        self._told = True
        return seen

    def state_dict(self) -> dict[str, Any]:
        """The open window and what was told."""
        moments = (self._real, self._fake)
        windows = [None if part is None else list(part.tensors) for part in moments]
        return {"told": self._told, "steps": self._steps, "windows": windows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._told, self._steps = state["told"], state["steps"]
        self._real, self._fake = (None if part is None else Moments.of(*part) for part in state["windows"])


def _coarse(x_BCHW: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x_BCHW.detach().float(), _GRID).flatten(1)


def _compared(real: Moments, fake: Moments) -> Seen:
    if not all(bool(tensor.isfinite().all()) for tensor in fake.tensors):
        return Seen(math.inf, 0.0)
    variance = max(float(real.covariance.trace()), 1e-12)
    spread = float(fake.covariance.trace()) / variance
    return Seen(frechet_distance(fake, real) / variance, spread)
