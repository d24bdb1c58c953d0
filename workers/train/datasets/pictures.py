"""Pictures as they are kept: decoded once, upright, on white, grey or in colour, never large."""

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from workers.train.datasets.facts import BadRow, Limits, Picture

#: By Pillow's names. No other is tried: some of Pillow's readers start other programs.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".ppm", ".pgm", ".pbm"})
#: Pictures, but of formats that are not read.
OTHER_SUFFIXES = frozenset(
    {".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".ico", ".psd", ".dcm", ".jp2"}
)
#: What Pillow raises on damaged files, whatever the format.
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError,
    OverflowError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
_GREY_MODES = frozenset({"1", "L", "LA", "La"})
#: Modes that can be scaled before they are converted, which keeps large pictures from being copied.
_SCALABLE = frozenset({"L", "RGB", "LA", "RGBA", "CMYK", "YCbCr"})
_ORIENTATION = 0x0112
_UPRIGHT = 1


@contextmanager
def strict_pictures() -> Iterator[None]:
    """Pillow's warning of pictures with too many pixels is an error, as it is for us."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode(data: bytes, limits: Limits) -> Picture:
    """The first frame of a picture's file.

    A JPEG that is small and upright is kept byte for byte; everything else becomes a PNG.

    Raises:
        BadRow: it is no picture, damaged, or claims too many pixels (found out before any is decoded).
    """
    if not data:
        raise BadRow("is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > limits.max_pixels:
            raise BadRow(f"claims {width:,} x {height:,} pixels, over the limit of {limits.max_pixels:,}")
        if not width * height:
            raise BadRow("has no pixels")
        return _kept(image, data, limits)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadRow(f"claims more than {limits.max_pixels:,} pixels") from error
    except UnidentifiedImageError as error:
        raise BadRow("is no picture, or its beginning is damaged") from error
    except _DAMAGE as error:
        raise BadRow("is damaged or cut off: it could not be decoded") from error


def from_pixels(pixels: npt.NDArray[np.uint8], limits: Limits) -> Picture:
    """A picture of an array (H, W) or (H, W, C) with one, three or four channels."""
    if pixels.shape[2:] == (1,):
        pixels = pixels[..., 0]
    return _encoded(_plain(_shrunk(Image.fromarray(np.ascontiguousarray(pixels)), limits.kept_side)))


def _kept(image: Image.Image, data: bytes, limits: Limits) -> Picture:
    side = limits.kept_side
    is_jpeg = image.format == "JPEG"
    if is_jpeg:
        # libjpeg decodes at a half, a quarter or an eighth for far less time and memory.
        image.draft(None, (2 * side, 2 * side))
    is_small = max(image.size) <= side
    image.load()
    orientation = _orientation(image)
    if is_jpeg and is_small and image.mode in ("L", "RGB") and orientation == _UPRIGHT:
        channels = len(image.mode)
        return Picture(data, *image.size, channels, hashlib.sha256(b"jpeg" + data).digest())
    if image.mode in _SCALABLE and not image.info.get("transparency"):
        image = _shrunk(image, side)
    plain = _shrunk(_plain(image), side)
    if orientation != _UPRIGHT:
        plain.getexif()[_ORIENTATION] = orientation
        plain = ImageOps.exif_transpose(plain)
    return _encoded(plain)


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, _UPRIGHT)
    except _DAMAGE:
        return _UPRIGHT  # unreadable EXIF data says nothing about the pixels, which were read
    return found if found in range(1, 9) else _UPRIGHT


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    longer = max(image.size)
    if longer <= side:
        return image
    width, height = (max(1, round(length * side / longer)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _plain(image: Image.Image) -> Image.Image:
    """The picture in mode L or RGB."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise BadRow("has pixels of floating point: save it with 8 bits")
    if image.mode.startswith("I"):
        # 16 bits a pixel; Pillow's own conversion would clip at 255 instead of scaling.
        grey = np.asarray(image) >> 8
        return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        white = Image.new("RGB", coloured.size, "white")
        white.paste(coloured, mask=coloured.getchannel("A"))
        return white.convert("L") if image.mode in _GREY_MODES else white
    if image.mode == "P" and _is_grey(image.getpalette() or []):
        return image.convert("L")
    return image.convert("L" if image.mode in _GREY_MODES else "RGB")


def _is_grey(palette: list[int]) -> bool:
    return palette[::3] == palette[1::3] == palette[2::3]


def _encoded(image: Image.Image) -> Picture:
    out = io.BytesIO()
    image.info = {}  # nothing of what else its file said
    image.save(out, "PNG", compress_level=1)
    channels = len(image.mode)
    shown = hashlib.sha256(struct.pack("<3I", *image.size, channels))
    shown.update(image.tobytes())
    return Picture(out.getvalue(), *image.size, channels, shown.digest())


def sheet(pictures: list[bytes], columns: int = 8) -> bytes:
    """Pictures side by side as one PNG; small ones are enlarged by whole numbers."""
    images: list[Any] = [Image.open(io.BytesIO(data), formats=FORMATS).convert("RGB") for data in pictures]
    cell = min(96, max(max(image.size) for image in images))
    cell *= max(1, 56 // cell)
    rows = -(-len(images) // columns)
    step = cell + 2
    made = Image.new("RGB", (columns * step, rows * step), (128, 128, 128))
    for number, image in enumerate(images):
        factor = cell / max(image.size)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BILINEAR
        row, column = divmod(number, columns)
        made.paste(image.resize(size, how), (column * step + 1, row * step + 1))
    out = io.BytesIO()
    made.save(out, "PNG")
    return out.getvalue()
