"""What can be learnt from rows without labels: a net should say the same of a row however it is shown.

Legend: B batch, K classes. Logits are (B, K); losses are means over rows.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from torch import Tensor

#: ``(student's logits, teacher's logits) -> ()``; no gradient reaches the teacher.
Consistency = Callable[[Tensor, Tensor], Tensor]
#: A share in 0..1 of the way to a share in 0..1 of the weight.
Ramp = Callable[[float], float]


class Masked(NamedTuple):
    """The loss, and the share of rows that were sure enough to count in it."""

    loss: Tensor
    used: Tensor


def softmax_mse(student_BK: Tensor, teacher_BK: Tensor) -> Tensor:
    """Mean squared distance of the probabilities (Tarvainen and Valpola, 2017)."""
    return F.mse_loss(student_BK.softmax(1), teacher_BK.detach().softmax(1))


def softmax_kl(student_BK: Tensor, teacher_BK: Tensor) -> Tensor:
    """KL(teacher || student) of the probabilities."""
    targets_BK = teacher_BK.detach().log_softmax(1)
    return F.kl_div(student_BK.log_softmax(1), targets_BK, reduction="batchmean", log_target=True)


def pseudo_label(logits_BK: Tensor, guess_BK: Tensor, threshold: float) -> Masked:
    """Cross entropy with the likeliest class of ``guess_BK``, probabilities without a gradient.

    Rows whose guess is below ``threshold`` add nothing, but count in the mean. With the logits of a strongly
    changed row and the guess of a weakly changed one this is FixMatch (Sohn et al., 2020, equation 4); with
    both from the same pass it is Pseudo-Label (Lee, 2013).
    """
    sure_B, labels_B = guess_BK.detach().max(1)
    used_B = (sure_B >= threshold).to(logits_BK.dtype)
    loss_B = F.cross_entropy(logits_BK, labels_B, reduction="none")
    return Masked((loss_B * used_B).mean(), used_B.mean())


def aligned(guess_BK: Tensor, marginals_2K: Tensor) -> Tensor:
    """Guesses as they were if classes were as frequent as among the labelled (Berthelot et al., 2020).

    ``marginals_2K``: frequency of each class among labels, and mean guess so far.
    """
    wanted_K, seen_K = marginals_2K
    scaled_BK: Tensor = guess_BK * (wanted_K / seen_K.clamp(min=1e-6))
    return scaled_BK / scaled_BK.sum(1, keepdim=True)


def sharpened(logits_BK: Tensor, temperature: float) -> Tensor:
    """Probabilities at a temperature; below 1 they move towards the likeliest class."""
    return torch.softmax(logits_BK / temperature, dim=1)


def sigmoid_ramp(share: float) -> float:
    """exp(-5 (1 - t)^2) (Laine and Aila, 2017)."""
    return math.exp(-5 * (1 - share) ** 2)


def linear_ramp(share: float) -> float:
    """T (Lee, 2013)."""
    return share


CONSISTENCIES: Mapping[str, Consistency] = MappingProxyType({"mse": softmax_mse, "kl": softmax_kl})
RAMPS: Mapping[str, Ramp] = MappingProxyType({"sigmoid": sigmoid_ramp, "linear": linear_ramp})
