"""TensorBoard's event files, written without its package.

A file is a row of TFRecords: length (uint64), masked CRC-32C of the length, the bytes, masked CRC-32C of the
bytes. The bytes are an ``Event`` of tensorflow/core/util/event.proto; only the few fields used here are
encoded.
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected
_MASK_DELTA = 0xA282EAD8
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class EventWriter:
    """One event file in ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time_ns()
        name = f"events.out.tfevents.{now // 10**9}.{socket.gethostname()}.{os.getpid()}.{now}"
        self._file = (folder / name).open("wb")
        self._write(_bytes_field(3, b"brain.Event:2"), step=0)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add one value a tag, and hand them to the system."""
        summary = b"".join(
            _bytes_field(1, _bytes_field(1, tag.encode()) + _key(2, _FIXED32) + struct.pack("<f", value))
            for tag, value in values.items()
        )
        self._write(_bytes_field(5, summary), step)
        self._file.flush()

    def picture(self, step: int, tag: str, png: bytes) -> None:
        """Add one PNG."""
        width, height = struct.unpack(">II", png[16:24])
        image = _key(1, _VARINT) + _varint(height) + _key(2, _VARINT) + _varint(width) + _bytes_field(4, png)
        value = _bytes_field(1, tag.encode()) + _bytes_field(4, image)
        self._write(_bytes_field(5, _bytes_field(1, value)), step)
        self._file.flush()

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def _write(self, what: bytes, step: int) -> None:
        event = _key(1, _FIXED64) + struct.pack("<d", time.time()) + _key(2, _VARINT) + _varint(step) + what
        length = struct.pack("<Q", len(event))
        for part in (
            length,
            struct.pack("<I", masked_crc(length)),
            event,
            struct.pack("<I", masked_crc(event)),
        ):
            self._file.write(part)


def crc32c(content: bytes) -> int:
    """CRC-32C (RFC 3720, appendix B.4)."""
    table = _table()
    crc = 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked_crc(content: bytes) -> int:
    """The CRC as TFRecord files store it: turned and shifted, so that a CRC of CRCs is no weaker."""
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        entries.append(crc)
    return tuple(entries)


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004  seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _bytes_field(field: int, content: bytes) -> bytes:
    return _key(field, _BYTES) + _varint(len(content)) + content
