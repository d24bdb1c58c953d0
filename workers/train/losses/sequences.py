"""How well sequences were told, by what is learnt, and the penalties of AWD-LSTM.

Legend: B batch, L length, K classes or words, H width of a state.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from torch import Tensor

#: The target of a place that is not to be learnt; metrics leave it out as well.
IGNORED = -100


def mean_by_token(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Nats a token of logits (..., K): for batches whose rows all have the same number of tokens."""
    return F.cross_entropy(
        logits.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
    )


def mean_by_row(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Nats a row of logits (B, L, K): summed over the tokens that count.

    A mean over tokens would weigh a row by the company it is in, and two processes with half a batch each
    would not come to what one with all of it does.
    """
    summed = F.cross_entropy(
        logits.flatten(0, -2).float(),
        targets.flatten(),
        ignore_index=IGNORED,
        label_smoothing=smoothing,
        reduction="sum",
    )
    return summed / len(logits)


SEQUENCE_LOSSES: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = MappingProxyType(
    {
        "language_model": mean_by_token,
        "classifier": mean_by_token,
        "tagger": mean_by_row,
        "seq2seq": mean_by_row,
    }
)


def activation_penalty(dropped_BLH: Tensor) -> Tensor:
    """Mean square of the states after their dropout (Merity et al., 2017: AR)."""
    return dropped_BLH.square().mean()


def temporal_penalty(states_BLH: Tensor) -> Tensor:
    """Mean square of the change from state to state (Merity et al., 2017: TAR); 0 for a single state."""
    if states_BLH.shape[1] == 1:
        return torch.zeros((), device=states_BLH.device)
    return states_BLH.diff(dim=1).square().mean()
