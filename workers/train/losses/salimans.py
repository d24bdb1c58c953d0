"""The losses of a classifier that also tells real rows from generated ones (Salimans et al., 2016).

The net gives K logits; that of a further class, "generated", is fixed at 0 (their section 5). With
Z = sum of exp(logits), a row is real with probability Z / (Z + 1).

Legend: B batch, K classes, F features.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from torch import Tensor

#: ``(features of real rows, features of generated rows) -> ()``
Matching = Callable[[Tensor, Tensor], Tensor]


def real_loss(logits_BK: Tensor) -> Tensor:
    """-log of the probability that rows are real, whatever their class: the mean."""
    return F.softplus(-logits_BK.logsumexp(1)).mean()


def generated_loss(logits_BK: Tensor) -> Tensor:
    """-log of the probability that rows are generated: the mean."""
    return F.softplus(logits_BK.logsumexp(1)).mean()


def square_matching(real_BF: Tensor, generated_BF: Tensor) -> Tensor:
    """Mean squared distance of the mean features (section 3.1); no gradient reaches the real ones."""
    return (real_BF.detach().mean(0) - generated_BF.mean(0)).square().mean()


def absolute_matching(real_BF: Tensor, generated_BF: Tensor) -> Tensor:
    """Mean absolute distance of the mean features."""
    return (real_BF.detach().mean(0) - generated_BF.mean(0)).abs().mean()


MATCHINGS: Mapping[str, Matching] = MappingProxyType(
    {"square": square_matching, "absolute": absolute_matching}
)
