"""Decoding pictures: every odd one is either decoded as a person would see it, or refused with a reason."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from workers.embed.items import Refusal
from workers.embed.media.images import MAX_PIXELS, decode_image, pixels_of

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))


def refusal_of(data: bytes) -> Refusal:
    with pytest.raises(Refusal) as raised:
        decode_image(data)
    return raised.value


@pytest.mark.parametrize("side", [60_000, 9_000])
def test_a_png_that_claims_too_many_pixels_is_refused_without_allocating_them(side: int) -> None:
    """60000 x 60000 is past Pillow's own limit, 9000 x 9000 only past ours."""
    data = png_that_claims(side, side)
    tracemalloc.start()
    try:
        refused = refusal_of(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "PAYLOAD_TOO_LARGE" == refused.code
    assert f"{MAX_PIXELS:,} pixels" in refused.message
    assert peak < 1_000_000


def test_a_picture_of_just_the_limit_is_decoded() -> None:
    image = decode_image(encoded(Image.new("RGB", (20, 10), RED)), max_pixels=200)
    assert (20, 10) == image.size


@pytest.mark.parametrize(
    "data", [b"", b"just some text", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>"]
)
def test_what_is_no_picture_is_invalid_input(data: bytes) -> None:
    assert "INVALID_INPUT" == refusal_of(data).code


@pytest.mark.parametrize(
    ("image_format", "share"), [("JPEG", 0.5), ("JPEG", 0.1), ("PNG", 0.5), ("GIF", 0.5), ("WEBP", 0.5)]
)
def test_a_truncated_file_is_invalid_input_with_a_clear_message(image_format: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), image_format)

    refused = refusal_of(data[: int(len(data) * share)])

    assert "INVALID_INPUT" == refused.code
    assert "damaged" in refused.message


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright(orientation: int) -> None:
    """The picture is wide, red on its left; the camera stored it turned and says how."""
    upright = Image.new("RGB", (40, 20), BLUE)
    upright.paste(RED, (0, 0, 10, 20))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation

    decoded = decode_image(encoded(stored, "PNG", exif=exif))

    assert (40, 20) == decoded.size
    assert (RED, BLUE) == (decoded.getpixel((2, 10)), decoded.getpixel((37, 10)))


def test_unreadable_exif_data_does_not_lose_the_picture() -> None:
    data = encoded(Image.new("RGB", (8, 8), RED), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff")
    assert (8, 8) == decode_image(data).size


def half_transparent(mode: str) -> Image.Image:
    """Red on the left, nothing on the right; what lies below the transparency is black."""
    image = Image.new("RGBA", (8, 4), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 4, 4))
    return image.convert(mode)


def with_transparent_palette() -> Image.Image:
    image = Image.new("P", (8, 4), 1)
    image.putpalette([*RED, 0, 0, 0])
    image.paste(0, (0, 0, 4, 4))
    image.info["transparency"] = 1
    return image


@pytest.mark.parametrize(
    "make",
    [lambda: half_transparent("RGBA"), with_transparent_palette],
    ids=["alpha", "palette"],
)
@pytest.mark.parametrize("image_format", ["PNG", "GIF", "WEBP"])
def test_transparency_is_laid_on_white(make: Callable[[], Image.Image], image_format: str) -> None:
    options = {"lossless": True} if image_format == "WEBP" else {}
    decoded = decode_image(encoded(make(), image_format, **options))

    assert "RGB" == decoded.mode
    assert (RED, WHITE) == (decoded.getpixel((1, 1)), decoded.getpixel((6, 1)))


def test_grey_with_alpha_is_laid_on_white() -> None:
    decoded = decode_image(encoded(half_transparent("LA")))
    assert WHITE == decoded.getpixel((6, 1))


def test_a_palette_becomes_colours() -> None:
    assert GREEN == decode_image(encoded(Image.new("RGB", (4, 4), GREEN).quantize(4))).getpixel((0, 0))


def test_16_bit_greys_are_scaled_and_not_clipped() -> None:
    values = np.array([[0, 0x3FFF, 0x7FFF, 0xFFFF]], dtype=np.uint16)

    decoded = decode_image(encoded(Image.fromarray(values)))

    assert [0, 0x3F, 0x7F, 0xFF] == [decoded.getpixel((x, 0))[0] for x in range(4)]


@pytest.mark.parametrize("mode", ["1", "L"])
def test_black_and_white_become_three_channels(mode: str) -> None:
    assert WHITE == decode_image(encoded(Image.new(mode, (4, 4), "white"))).getpixel((0, 0))


def test_cmyk_becomes_rgb() -> None:
    cyan_free = Image.new("CMYK", (16, 16), (0, 255, 255, 0))

    red, green, blue = decode_image(encoded(cyan_free, "JPEG", quality=95)).getpixel((8, 8))

    assert red > 200
    assert max(green, blue) < 60


def test_of_a_moving_picture_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (GREEN, RED, BLUE)]

    decoded = decode_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))

    assert GREEN == decoded.getpixel((4, 4))


def test_a_text_chunk_that_explodes_is_invalid_input() -> None:
    """A hundred megabytes are hidden in a comment of the file."""
    bomb = b"comment\0\0" + zlib.compress(b"0" * 100_000_000)
    start, end = png_that_claims(8, 8).split(chunk(b"IDAT", zlib.compress(b"\0" * 100)))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + b"\0" * 24) * 8))

    refused = refusal_of(start + chunk(b"zTXt", bomb) + pixels + chunk(b"IEND", b"") + end)

    assert "INVALID_INPUT" == refused.code


@given(st.data())
def test_damage_anywhere_never_raises_anything_but_a_refusal(data: st.DataObject) -> None:
    image_format = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP"]))
    gradient = np.linspace(0, 255, 12 * 12 * 3).reshape(12, 12, 3).astype(np.uint8)
    raw = bytearray(encoded(Image.fromarray(gradient), image_format))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_image(bytes(raw))
    except Refusal:
        return
    assert "RGB" == decoded.mode


def test_a_photo_becomes_a_square_of_pixels(photos: dict[str, Path]) -> None:
    pixels = pixels_of(decode_image(photos["lion"].read_bytes()), 224)
    assert ((224, 224, 3), np.dtype(np.uint8)) == (pixels.shape, pixels.dtype)
