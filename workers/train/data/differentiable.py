"""Changes to pictures that gradients pass through, for real and generated ones alike (Zhao et al., 2020).

Each draws from the global generator, once a picture.
Legend: B batch, C channels, H height, W width; pixels in 0..1.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from torch import Tensor

#: Greatest shift, as a share of the side; the side of the patch that is cut out, likewise.
_SHIFT, _CUT = 1 / 8, 1 / 2


def color(x_BCHW: Tensor) -> Tensor:
    """Brightness up to half of the range, saturation 0..2, contrast 0.5..1.5."""
    brightness, saturation, contrast = torch.rand(3, len(x_BCHW), 1, 1, 1, device=x_BCHW.device)
    x = x_BCHW + (brightness - 0.5) / 2
    if x.shape[1] > 1:
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * saturation * 2
    mean = x.mean((1, 2, 3), keepdim=True)
    changed: Tensor = mean + (x - mean) * (contrast + 0.5)
    return changed


def translation(x_BCHW: Tensor) -> Tensor:
    """Whole pixels up to an eighth of the side in both directions; what comes in is 0."""
    num_rows, _, height, width = x_BCHW.shape
    most_y, most_x = round(height * _SHIFT), round(width * _SHIFT)
    device = x_BCHW.device
    by_y = torch.randint(0, 2 * most_y + 1, (num_rows, 1), device=device)
    by_x = torch.randint(0, 2 * most_x + 1, (num_rows, 1), device=device)
    padded = F.pad(x_BCHW, (most_x, most_x, most_y, most_y))
    rows = (by_y + torch.arange(height, device=device))[:, None, :, None]
    columns = (by_x + torch.arange(width, device=device))[:, None, None, :]
    which = torch.arange(num_rows, device=device)[:, None, None, None]
    channels = torch.arange(x_BCHW.shape[1], device=device)[None, :, None, None]
    return padded[which, channels, rows, columns]


def cutout(x_BCHW: Tensor) -> Tensor:
    """A square of half the side becomes 0, in part outside the picture at times."""
    num_rows, _, height, width = x_BCHW.shape
    device = x_BCHW.device
    shown = (
        _outside(num_rows, height, device)[:, None, :, None]
        | _outside(num_rows, width, device)[:, None, None]
    )
    return x_BCHW * shown


def _outside(num_rows: int, side: int, device: torch.device) -> Tensor:
    """Which places along one axis are outside a patch with a random centre (B, side)."""
    half = side * _CUT / 2
    centres = torch.rand(num_rows, 1, device=device) * side
    return (torch.arange(side, device=device) + 0.5 - centres).abs() > half


DIFFERENTIABLE: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"color": color, "translation": translation, "cutout": cutout}
)


def differentiable(x_BCHW: Tensor, names: Sequence[str]) -> Tensor:
    """All the named changes, one after the other."""
    for name in names:
        x_BCHW = DIFFERENTIABLE[name](x_BCHW)
    return x_BCHW
