"""What an encoder takes, written down well enough that another process can prepare it the same way.

Legend: B batch, C channels, H height, W width, L length, V vocabulary.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class ImageInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="image"):
    """Pictures: resized to ``side`` squared, one or three channels, pixels in 0..1, then (x - mean) / std."""

    side: Annotated[int, Meta(ge=1, le=1024)]
    channels: Literal[1, 3] = 1
    mean: float = 0.0
    std: Annotated[float, Meta(gt=0)] = 1.0
    resample: Literal["bilinear", "bicubic", "nearest"] = "bilinear"

    def prepare(self, items: Sequence[Image.Image | np.ndarray[Any, Any] | Tensor]) -> Tensor:
        """(B, C, H, W) float32. Arrays and tensors are uint8, (H, W), (H, W, C) or, as tensors, (C, H, W)."""
        return self.scale(self.pixels(items))

    def pixels(self, items: Sequence[Image.Image | np.ndarray[Any, Any] | Tensor]) -> Tensor:
        """The same pictures before they are scaled: (B, C, H, W) uint8, a quarter of the memory."""
        return torch.stack([self._resized(_as_image(item)) for item in items])

    def scale(self, pixels_BCHW: Tensor) -> Tensor:
        """What `prepare` makes of `pixels`."""
        return (pixels_BCHW.float().div_(255) - self.mean) / self.std

    def _resized(self, image: Image.Image) -> Tensor:
        image = image.convert("L" if self.channels == 1 else "RGB")
        if image.size != (self.side, self.side):
            image = image.resize((self.side, self.side), _RESAMPLING[self.resample])
        pixels = torch.from_numpy(np.array(image, np.uint8)).view(self.side, self.side, self.channels)
        return pixels.permute(2, 0, 1)


_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


def _as_image(item: Image.Image | np.ndarray[Any, Any] | Tensor) -> Image.Image:
    if isinstance(item, Image.Image):
        return item
    pixels = _last(item.numpy()) if isinstance(item, Tensor) else np.asarray(item)
    if pixels.dtype != np.uint8:
        raise TypeError(f"pictures are uint8, not {pixels.dtype}")
    is_grey = pixels.shape[2:] == (1,)
    return Image.fromarray(pixels[..., 0] if is_grey else pixels)


def _last(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Channels last, where there are any."""
    return np.moveaxis(pixels, 0, -1) if pixels.shape[:-2] else pixels


class BagInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="bag"):
    """Texts as counts of the tokenizer's words, (B, V) float32; the first ``skip`` words (specials) are 0."""

    vocabulary_size: Count
    skip: Annotated[int, Meta(ge=0)] = 1
    scale: Literal["counts", "binary", "log"] = "counts"

    def prepare(self, items: Sequence[str], tokenizer: Tokenizer) -> Tensor:
        """One row a text."""
        return self.batch([encoding.ids for encoding in tokenizer.encode_batch(list(items))])

    def row(self, ids: list[int]) -> list[int]:
        """What `batch` takes of one text, given all of its tokens."""
        return ids

    def batch(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """What `prepare` makes of the tokens of several texts."""
        counts = torch.zeros(len(rows), self.vocabulary_size)
        for row, ids in enumerate(rows):
            counted = torch.tensor(ids, dtype=torch.long).bincount(minlength=self.vocabulary_size)
            counts[row] = counted[: self.vocabulary_size]
        counts[:, : self.skip] = 0
        if self.scale == "binary":
            return (counts > 0).float()
        return counts.log1p() if self.scale == "log" else counts


class TokensInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="tokens"):
    """Texts as token numbers: a dict of ``ids`` (B, L) int64, padded, and ``ids_lengths`` (B,)."""

    max_length: Count
    padding: Annotated[int, Meta(ge=0)] = 0

    def prepare(self, items: Sequence[str], tokenizer: Tokenizer) -> dict[str, Tensor]:
        """One row a text; an empty text is one padding token."""
        return self.batch([self.row(encoding.ids) for encoding in tokenizer.encode_batch(list(items))])

    def row(self, ids: list[int]) -> list[int]:
        """What `batch` takes of one text, given all of its tokens: the first of them, and at least one."""
        return ids[: self.max_length] or [self.padding]

    def batch(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """What `prepare` makes of the rows of several texts."""
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.full((len(rows), int(lengths.max())), self.padding, dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row)
        return {"ids": ids, "ids_lengths": lengths}


class FeaturesInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="features"):
    """Rows of ``num_features`` numbers, (B, F) float32."""

    num_features: Count

    def prepare(self, items: Sequence[Sequence[float]]) -> Tensor:
        """As they are."""
        rows = torch.as_tensor(np.asarray(items, np.float32))
        if rows.shape[1:] != (self.num_features,):
            raise ValueError(f"rows of {self.num_features} numbers are needed, got shape {tuple(rows.shape)}")
        return rows


InputContract = ImageInput | BagInput | TokensInput | FeaturesInput
