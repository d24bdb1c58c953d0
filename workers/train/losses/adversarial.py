"""What a discriminator and a generator want of the scores, and what keeps a discriminator smooth.

Legend: B batch. Scores are of any shape; every loss is a scalar, a mean over them.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from torch import Tensor

#: Pictures to scores.
Score = Callable[[Tensor], Tensor]


class Adversarial(NamedTuple):
    """The discriminator's loss ``(scores of real ones, scores of generated ones)`` and the generator's."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def _logistic_d(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def _logistic_g(fake: Tensor) -> Tensor:
    return F.softplus(-fake).mean()


def _least_squares_d(real: Tensor, fake: Tensor) -> Tensor:
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def _least_squares_g(fake: Tensor) -> Tensor:
    return 0.5 * (fake - 1).square().mean()


def _hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def _wasserstein_d(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def _higher_g(fake: Tensor) -> Tensor:
    return -fake.mean()


#: Goodfellow et al. (2014), Mao et al. (2017), Lim and Ye (2017), Arjovsky et al. (2017).
ADVERSARIAL: Mapping[str, Adversarial] = MappingProxyType(
    {
        "non_saturating": Adversarial(_logistic_d, _logistic_g),
        "least_squares": Adversarial(_least_squares_d, _least_squares_g),
        "hinge": Adversarial(_hinge_d, _higher_g),
        "wasserstein_gp": Adversarial(_wasserstein_d, _higher_g),
    }
)


def gradient_penalty(score: Score, real: Tensor, fake: Tensor, shares_B: Tensor) -> Tensor:
    """How far the slope of the score is from 1 between real and generated ones (Gulrajani et al., 2017).

    ``shares_B`` in 0..1 says where between the two each row is looked at.
    """
    shares = shares_B.view(-1, *[1] * (real.dim() - 1))
    between = torch.lerp(fake.detach(), real.detach(), shares).requires_grad_()
    return (_slopes(score(between), between).sqrt() - 1).square().mean()


def r1_penalty(score: Score, real: Tensor) -> Tensor:
    """Half the mean squared slope of the score at real ones (Mescheder et al., 2018)."""
    real = real.detach().requires_grad_()
    return 0.5 * _slopes(score(real), real).mean()


def _slopes(scores: Tensor, x: Tensor) -> Tensor:
    """Squared norms of the gradients by row (B,); they can be differentiated once more."""
    (slopes,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    # The root of 0 has no gradient.
    return slopes.flatten(1).square().sum(1) + 1e-12
