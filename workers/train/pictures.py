"""Grids of small pictures as PNG, for people to look at."""

import io

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from PIL import Image
from torch import Tensor


def grid_png(x_NCHW: Tensor, *, columns: int, scale: int = 2) -> bytes:
    """Pictures in 0..1 side by side with a line between them; each pixel becomes ``scale`` squared."""
    x = x_NCHW.detach().float().cpu().clamp(0, 1)
    x = F.interpolate(x, scale_factor=scale, mode="nearest")
    rows = -(-len(x) // columns)
    blank = torch.zeros(rows * columns - len(x), *x.shape[1:])
    x = F.pad(torch.cat([x, blank]), (1, 1, 1, 1), value=0.5)
    _, channels, height, width = x.shape
    sheet = x.view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    pixels = sheet.reshape(rows * height, columns * width, channels).mul(255).round().byte().numpy()
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(out, "PNG")
    return out.getvalue()
