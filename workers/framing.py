"""Frames through a pipe: the length of a frame, then its bytes."""

import struct
from typing import IO

_LENGTH = struct.Struct(">Q")
#: Bytes of the length in front of each frame.
HEADER_BYTES = _LENGTH.size


def framed(raw: bytes) -> bytes:
    """Put the length in front."""
    return _LENGTH.pack(len(raw)) + raw


def length_of(header: bytes) -> int:
    """Return how many bytes follow the header."""
    (length,) = _LENGTH.unpack(header)
    return int(length)


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Read the next frame of a blocking stream; None at its end, which a frame that is cut off is, too."""
    header = stream.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return None
    length = length_of(header)
    raw = stream.read(length)
    return raw if len(raw) == length else None
