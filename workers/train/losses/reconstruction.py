"""How well something was rebuilt, and how far a latent is from its prior.

Legend: B batch, Z latent, S samples. Every loss is (B,): summed over the numbers of a row, in nats where that
has a meaning.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from torch import Tensor


class Reconstruction(NamedTuple):
    """A loss ``(decoder's output, x) -> (B,)``, and what the output looks like in the units of x."""

    loss: Callable[[Tensor, Tensor], Tensor]
    values: Callable[[Tensor], Tensor]


def bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """-log p(x) of x in 0..1 under independent coins."""
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)


def squared(out: Tensor, x: Tensor) -> Tensor:
    """The squared error."""
    return (out - x).square().flatten(1).sum(1)


def squared_in_unit_range(logits: Tensor, x: Tensor) -> Tensor:
    """The squared error of the output put through a sigmoid."""
    return squared(torch.sigmoid(logits), x)


def multinomial(logits: Tensor, counts: Tensor) -> Tensor:
    """-log p(counts) of words drawn one by one from a softmax, their order given (Miao et al., 2016)."""
    return -(F.log_softmax(logits, dim=-1) * counts).flatten(1).sum(1)


def _same(out: Tensor) -> Tensor:
    return out


def _softmax(logits: Tensor) -> Tensor:
    return torch.softmax(logits, dim=-1)


RECONSTRUCTIONS: Mapping[str, Reconstruction] = MappingProxyType(
    {
        "bce": Reconstruction(bernoulli, torch.sigmoid),
        "mse": Reconstruction(squared, _same),
        "unit_mse": Reconstruction(squared_in_unit_range, torch.sigmoid),
        "multinomial": Reconstruction(multinomial, _softmax),
    }
)


def kl_to_standard_normal(mu_BZ: Tensor, log_var_BZ: Tensor) -> Tensor:
    """KL(N(mu, var) || N(0, 1)) (Kingma and Welling, 2014, appendix B), (B,)."""
    return 0.5 * (mu_BZ.square() + log_var_BZ.exp() - 1 - log_var_BZ).sum(1)


def log_normal(z: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    """Log N(z; mu, var), summed over the last axis."""
    return -0.5 * (math.log(2 * math.pi) + log_var + (z - mu).square() / log_var.exp()).sum(-1)


def importance_bound(log_weights_SB: Tensor) -> Tensor:
    """-log of the mean importance weight (Burda et al., 2016), (B,): an upper bound of -log p(x)."""
    return math.log(len(log_weights_SB)) - torch.logsumexp(log_weights_SB, 0)
