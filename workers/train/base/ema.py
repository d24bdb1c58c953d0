"""A running average of a network's weights (Polyak and Juditsky, 1992), used for evaluation and export."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Ema:
    """``average = decay * average + (1 - decay) * weight`` after each step.

    The first steps use a smaller decay, (1 + n) / (10 + n), so that the random start is forgotten soon.
    Buffers that are whole numbers are copied, the others averaged alike.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._num_updates = 0
        tensors = [*module.parameters(), *module.buffers()]
        self._live = [tensor for tensor in tensors if tensor.is_floating_point()]
        self._copied = [tensor for tensor in tensors if not tensor.is_floating_point()]
        with torch.no_grad():
            self._average = [tensor.detach().clone() for tensor in self._live]
            self._copies = [tensor.detach().clone() for tensor in self._copied]

    @torch.no_grad()
    def update(self) -> None:
        """Take one more step into the average."""
        self._num_updates += 1
        decay = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        torch._foreach_lerp_(self._average, self._live, 1 - decay)
        if self._copied:
            torch._foreach_copy_(self._copies, self._copied)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the network; the live weights come back at the end."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        pairs = zip([*self._live, *self._copied], [*self._average, *self._copies], strict=True)
        for live, average in pairs:
            kept = live.clone()
            live.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """The averages, in the network's own order."""
        return {"num_updates": self._num_updates, "average": self._average, "copies": self._copies}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._num_updates = state["num_updates"]
        for mine, theirs in zip(self._average, state["average"], strict=True):
            mine.copy_(theirs)
        for mine, theirs in zip(self._copies, state["copies"], strict=True):
            mine.copy_(theirs)


def tensors_of(average: Ema) -> list[Tensor]:
    """The averaged tensors, for tests and reports."""
    return list(average.state_dict()["average"])
