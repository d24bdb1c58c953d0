"""Random changes to whole batches that keep their meaning. All numbers come from the generator that is given.

Legend: B batch, C channels, H height, W width, L length. Images are float32 in 0..1.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from torch import Generator, Tensor

#: ``(batch, generator) -> batch``, as loaders apply it.
Transform = Callable[[Any, Generator], Any]


def shift(x_BCHW: Tensor, generator: Generator, *, most: int = 2) -> Tensor:
    """Move each image by up to ``most`` whole pixels a side; the border is black."""
    batch, _, height, width = x_BCHW.shape
    offsets = torch.randint(0, 2 * most + 1, (2, batch), generator=generator).to(x_BCHW.device)
    padded = F.pad(x_BCHW, (most, most, most, most))
    rows = (torch.arange(height, device=x_BCHW.device) + offsets[0, :, None])[:, None, :, None]
    columns = (torch.arange(width, device=x_BCHW.device) + offsets[1, :, None])[:, None, None, :]
    return padded[
        torch.arange(batch, device=x_BCHW.device)[:, None, None, None],
        torch.arange(x_BCHW.shape[1], device=x_BCHW.device)[None, :, None, None],
        rows,
        columns,
    ]


def flip(x_BCHW: Tensor, generator: Generator) -> Tensor:
    """Mirror every second image on average."""
    chosen = torch.rand(len(x_BCHW), generator=generator).to(x_BCHW.device) < 0.5  # noqa: PLR2004  a fair coin
    return torch.where(chosen[:, None, None, None], x_BCHW.flip(-1), x_BCHW)


def affine(
    x_BCHW: Tensor,
    generator: Generator,
    *,
    degrees: float = 20.0,
    scale: float = 0.2,
    shear: float = 0.2,
    translate: float = 0.12,
) -> Tensor:
    """Turn, stretch, slant and move (by a share of the side) each image on its own; outside is black."""
    batch = len(x_BCHW)
    drawn = torch.rand(5, batch, generator=generator).mul_(2).sub_(1)
    angle = drawn[0] * math.radians(degrees)
    zoom = 1 + drawn[1] * scale
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = cosine, -sine + drawn[2] * shear
    theta[:, 1, 0], theta[:, 1, 1] = sine, cosine
    theta[:, :, 2] = drawn[3:5].T * 2 * translate
    grid = F.affine_grid(theta.to(x_BCHW.device, x_BCHW.dtype), list(x_BCHW.shape), align_corners=False)
    return F.grid_sample(x_BCHW, grid, align_corners=False)


def cutout(x_BCHW: Tensor, generator: Generator, *, share: float = 0.35) -> Tensor:
    """Blacken one square of each image, with a side of ``share`` of the image's."""
    batch, _, height, width = x_BCHW.shape
    centres = torch.rand(2, batch, generator=generator).to(x_BCHW.device)
    half = share * min(height, width) / 2
    rows = torch.arange(height, device=x_BCHW.device)[None, :] - centres[0, :, None] * height
    columns = torch.arange(width, device=x_BCHW.device)[None, :] - centres[1, :, None] * width
    inside = (rows.abs() <= half)[:, None, :, None] & (columns.abs() <= half)[:, None, None, :]
    return x_BCHW.masked_fill(inside, 0.0)


def brightness(x_BCHW: Tensor, generator: Generator, *, most: float = 0.3) -> Tensor:
    """Scale each image's pixels by 1 +- ``most``, kept in 0..1."""
    factor = 1 + (torch.rand(len(x_BCHW), generator=generator).to(x_BCHW.device) * 2 - 1) * most
    return (x_BCHW * factor[:, None, None, None]).clamp(0, 1)


def weak_digits(x_BCHW: Tensor, generator: Generator) -> Tensor:
    """Weak change for pictures that a mirror would turn into something else: 2 pixels at a side of 28."""
    return shift(x_BCHW, generator, most=max(1, x_BCHW.shape[-1] // 14))


def weak_photos(x_BCHW: Tensor, generator: Generator) -> Tensor:
    """Weak change for photographs: shift and mirror."""
    return flip(shift(x_BCHW, generator, most=4), generator)


def strong_digits(x_BCHW: Tensor, generator: Generator) -> Tensor:
    """Strong change without a mirror: affine, then cutout."""
    return cutout(affine(x_BCHW, generator), generator)


def strong_photos(x_BCHW: Tensor, generator: Generator) -> Tensor:
    """Strong change for photographs: mirror, affine, brightness, cutout."""
    return cutout(brightness(affine(flip(x_BCHW, generator), generator), generator), generator)


def word_dropout(
    ids_BL: Tensor,
    generator: Generator,
    *,
    rate: float,
    unknown: int,
    padding: int = 0,
) -> Tensor:
    """Replace words by ``unknown`` with probability ``rate``; padding and each row's first word stay."""
    hit = torch.rand(ids_BL.shape, generator=generator).to(ids_BL.device) < rate
    hit[:, 0] = False
    return torch.where(hit & (ids_BL != padding), unknown, ids_BL)


def count_dropout(counts_BV: Tensor, generator: Generator, *, rate: float) -> Tensor:
    """Forget words of a bag of words with probability ``rate``."""
    return counts_BV * (torch.rand(counts_BV.shape, generator=generator) >= rate).to(counts_BV)


def noise(x_BF: Tensor, generator: Generator, *, level: float) -> Tensor:
    """Add normal noise to rows of numbers, ``level`` times each column's standard deviation in the batch."""
    spread_F = x_BF.std(0, unbiased=False)
    drawn_BF = torch.randn(x_BF.shape, generator=generator, dtype=x_BF.dtype).to(x_BF.device)
    return x_BF + level * spread_F * drawn_BF
