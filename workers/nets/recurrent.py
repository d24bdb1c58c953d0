"""Recurrent layers with the dropouts of AWD-LSTM (Merity et al., 2018), and pooling of their states.

Legend: B batch, L length, D width of a step, H hidden units, R directions (1 or 2), V vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from msgspec import Meta
from torch import Tensor, nn

from workers.nets.parts import NetConfig
from workers.nets.validation import Problem

Width = Annotated[int, Meta(ge=1, le=4096)]
Share = Annotated[float, Meta(ge=0, lt=1)]
#: One entry a layer: (h,) of a GRU or (h, c) of an LSTM, each (1, B, H).
Hidden = tuple[tuple[Tensor, ...], ...]


class RecurrentConfig(NetConfig, frozen=True):
    """A stack of LSTM or GRU layers.

    Attributes:
        cell, hidden, num_layers, bidirectional: the layers; ``hidden`` units in each direction.
        hidden_dropout: between layers, one mask for all steps of a row (Gal and Ghahramani, 2016).
        weight_drop: share of the hidden-to-hidden weights that is left out of a batch (DropConnect).
    """

    cell: Literal["lstm", "gru"] = "lstm"
    hidden: Width = 128
    num_layers: Annotated[int, Meta(ge=1, le=16)] = 1
    bidirectional: bool = False
    hidden_dropout: Share = 0.0
    weight_drop: Share = 0.0

    def problems(self) -> Iterator[Problem]:
        """What has no effect."""
        if self.hidden_dropout and self.num_layers == 1:
            yield Problem(("hidden_dropout",), "lies between layers: with one layer it has no effect")

    @property
    def num_directions(self) -> int:
        """R."""
        return 2 if self.bidirectional else 1


def locked_dropout(x_BLD: Tensor, rate: float, *, training: bool) -> Tensor:
    """Dropout with one mask for all steps of a row."""
    if not training or rate == 0:
        return x_BLD
    mask_B1D = torch.empty_like(x_BLD[:, :1]).bernoulli_(1 - rate).div_(1 - rate)
    return x_BLD * mask_B1D


def embedding_dropout(x_BLD: Tensor, ids_BL: Tensor, num_words: int, rate: float) -> Tensor:
    """Leave out whole words of the vocabulary for one batch, wherever they stand in it."""
    mask_V = torch.empty(num_words, device=x_BLD.device, dtype=x_BLD.dtype).bernoulli_(1 - rate)
    return x_BLD * mask_V.div_(1 - rate)[ids_BL].unsqueeze(-1)


class RecurrentLayer(nn.Module):
    """One layer, whose hidden-to-hidden weights can be thinned out in training.

    A backward direction reads each row from its own end, as over a packed sequence of torch; turning the
    rows round in place of packing them takes a tenth of the time on a CPU, and no look at the lengths.
    """

    def __init__(self, width: int, config: RecurrentConfig) -> None:
        super().__init__()
        kind = nn.LSTM if config.cell == "lstm" else nn.GRU
        self.directions = nn.ModuleList(
            kind(width, config.hidden, batch_first=True) for _ in range(config.num_directions)
        )
        self._hidden, self._is_lstm = config.hidden, config.cell == "lstm"
        self._weight_drop = config.weight_drop
        if self._is_lstm:
            self._open_forget_gates()

    @torch.no_grad()
    def _open_forget_gates(self) -> None:
        """An LSTM that forgets at first learns long dependencies late (Jozefowicz et al., 2015)."""
        for cell in self.directions:
            cell.get_parameter("bias_ih_l0")[self._hidden : 2 * self._hidden] = 1.0

    def forward(
        self, x_BLD: Tensor, hidden: tuple[Tensor, ...] | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """States (B, L, R * H), and the forward direction's hidden state after step L.

        States after a row's own end mean nothing; the forward direction never sees what comes later.
        """
        states_BLH, after = self._run(self.directions[0], x_BLD, hidden)
        if len(self.directions) == 1:
            return states_BLH, after
        turned, _ = self._run(self.directions[1], turn_round(x_BLD, lengths_B), None)
        return torch.cat([states_BLH, turn_round(turned, lengths_B)], 2), after

    def _run(
        self, cell: nn.Module, x_BLD: Tensor, hidden: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        if hidden is None:
            zeros = x_BLD.new_zeros(1, len(x_BLD), self._hidden)
            hidden = (zeros, zeros) if self._is_lstm else (zeros,)
        recurrent: Tensor = cell.get_parameter("weight_hh_l0")
        if self.training and self._weight_drop:
            recurrent = F.dropout(recurrent, self._weight_drop)
        weights = [
            cell.get_parameter("weight_ih_l0"),
            recurrent,
            cell.get_parameter("bias_ih_l0"),
            cell.get_parameter("bias_hh_l0"),
        ]
        # As nn.LSTM and nn.GRU call it: biases, one layer, no dropout, one direction, batch first.
        rest = (True, 1, 0.0, self.training, False, True)
        if self._is_lstm:
            out, h, c = torch.lstm(x_BLD, hidden, weights, *rest)
            return out, (h, c)
        out, h = torch.gru(x_BLD, hidden[0], weights, *rest)
        return out, (h,)


def turn_round(x_BLD: Tensor, lengths_B: Tensor | None) -> Tensor:
    """Each row's steps from its end to its beginning; what follows the end stays where it is."""
    if lengths_B is None:
        return x_BLD.flip(1)
    steps = torch.arange(x_BLD.shape[1], device=x_BLD.device)
    turned_BL = torch.where(inside(lengths_B, len(steps)), lengths_B[:, None] - 1 - steps, steps)
    return x_BLD.gather(1, turned_BL.unsqueeze(-1).expand_as(x_BLD))


class RecurrentStack(nn.Module):
    """Layers one above the other, with variational dropout between them."""

    def __init__(self, width: int, config: RecurrentConfig) -> None:
        super().__init__()
        widths = [width, *[config.hidden * config.num_directions] * (config.num_layers - 1)]
        self.layers = nn.ModuleList(RecurrentLayer(each, config) for each in widths)
        self._dropout = config.hidden_dropout

    def forward(
        self, x_BLD: Tensor, hidden: Hidden | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, Hidden]:
        """States of the last layer (B, L, R * H), and the hidden state of every layer."""
        last: list[tuple[Tensor, ...]] = []
        for at, layer in enumerate(self.layers):
            if at:
                x_BLD = locked_dropout(x_BLD, self._dropout, training=self.training)
            x_BLD, after = layer(x_BLD, None if hidden is None else hidden[at], lengths_B)
            last.append(after)
        return x_BLD, tuple(last)


def detach_hidden(hidden: Hidden) -> Hidden:
    """The same numbers without the graph that made them: what truncated backpropagation carries on."""
    return tuple(tuple(part.detach() for part in layer) for layer in hidden)


def inside(lengths_B: Tensor, length: int) -> Tensor:
    """Which of ``length`` steps belong to each row, (B, L) bool."""
    return torch.arange(length, device=lengths_B.device) < lengths_B[:, None]


def _mean(states_BLH: Tensor, inside_BL: Tensor, _directions: int) -> Tensor:
    weights = inside_BL.to(states_BLH.dtype).unsqueeze(-1)
    return (states_BLH * weights).sum(1) / weights.sum(1).clamp(min=1)


def _max(states_BLH: Tensor, inside_BL: Tensor, _directions: int) -> Tensor:
    return states_BLH.masked_fill(~inside_BL.unsqueeze(-1), -torch.inf).amax(1)


def _last(states_BLH: Tensor, inside_BL: Tensor, directions: int) -> Tensor:
    """The last state of the forward direction beside the first of the backward one."""
    ends = (inside_BL.sum(1) - 1).clamp(min=0)
    at_end = states_BLH[torch.arange(len(states_BLH), device=states_BLH.device), ends]
    if directions == 1:
        return at_end
    half = states_BLH.shape[2] // 2
    return torch.cat([at_end[:, :half], states_BLH[:, 0, half:]], 1)


def _concat(states_BLH: Tensor, inside_BL: Tensor, directions: int) -> Tensor:
    """Last, mean and greatest side by side (Howard and Ruder, 2018)."""
    return torch.cat([pool(states_BLH, inside_BL, directions) for pool in (_last, _mean, _max)], 1)


Pooling = Literal["concat", "mean", "max", "last"]
POOLINGS: Mapping[str, Callable[[Tensor, Tensor, int], Tensor]] = MappingProxyType(
    {"concat": _concat, "mean": _mean, "max": _max, "last": _last}
)
#: How many times as wide as a state the pooled vector is.
POOLED_WIDTHS: Mapping[str, int] = MappingProxyType({"concat": 3, "mean": 1, "max": 1, "last": 1})
