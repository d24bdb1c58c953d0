"""Bytes to pixels: bounded, upright, on white."""

import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from workers.embed.items import Refusal

#: The formats served, by Pillow's names. No other is tried: some of Pillow's readers start other programs.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
#: 40 megapixels take 120 MB in three channels; every telephone's camera fits, short of special modes.
MAX_PIXELS = 40_000_000

_ORIENTATION = 0x0112
#: EXIF 2.3, 4.6.4: what brings a picture upright, by the value of its orientation tag.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: What Pillow raises on damaged files, whatever the format.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the first frame of a JPEG, PNG, GIF or WebP to upright RGB.

    Transparency is laid on white; 16-bit greys are scaled to 8 bits; palettes and CMYK are converted.

    Raises:
        Refusal: PAYLOAD_TOO_LARGE when the file claims more pixels than ``max_pixels`` (found out before
            any is decoded), INVALID_INPUT when it is no image of these formats or is damaged.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels("", max_pixels) from error
    except _DAMAGE as error:
        raise Refusal("INVALID_INPUT", _unreadable(data)) from error
    width, height = image.size
    if width * height > max_pixels:
        raise _too_many_pixels(f" of {width} x {height}", max_pixels)
    try:
        image.load()
        return _upright(_on_white(image), image)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels("", max_pixels) from error
    except _DAMAGE as error:
        raise Refusal("INVALID_INPUT", "The image is damaged or cut off: it could not be decoded.") from error


def pixels_of(image: Image.Image, side: int) -> npt.NDArray[np.uint8]:
    """Resize to a square, bicubic, whatever the shape was: (side, side, 3)."""
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), dtype=np.uint8)


def _too_many_pixels(claim: str, max_pixels: int) -> Refusal:
    return Refusal(
        "PAYLOAD_TOO_LARGE", f"The image claims a size{claim}, over the limit of {max_pixels:,} pixels."
    )


def _unreadable(data: bytes) -> str:
    if not data:
        return "The file is empty."
    return "The file is no JPEG, PNG, GIF or WebP image, or its beginning is damaged."


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16 bits a pixel; Pillow's own conversion would clip at 255 instead of scaling.
        grey = np.asarray(image, dtype=np.uint32) >> 8
        return Image.fromarray(np.minimum(grey, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        white = Image.new("RGB", coloured.size, "white")
        white.paste(coloured, mask=coloured.getchannel("A"))
        return white
    return image.convert("RGB")


def _upright(pixels: Image.Image, source: Image.Image) -> Image.Image:
    try:
        orientation = source.getexif().get(_ORIENTATION)
    except _DAMAGE:
        return pixels  # unreadable EXIF data says nothing about the pixels, which were read
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return pixels if turn is None else pixels.transpose(turn)
