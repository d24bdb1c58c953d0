"""gzip, bzip2 and xz, unpacked piece by piece in bounded memory."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from workers.train.datasets.facts import BadSource
from workers.train.datasets.streams import CHUNK_BYTES, Allowance

#: An xz file says itself how much memory it wants, up to 4 GiB; ``xz -9`` takes 65 MiB.
_XZ_MEMORY_BYTES = 128 << 20
Pieces = Generator[bytes, None, None]
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)


def packing_of(start: bytes) -> str | None:
    """What a file is packed with, by its first bytes; None where it isn't."""
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)


def unpacked(path: Path, packing: str | None, allowance: Allowance) -> Iterator[bytes]:
    """The pieces of a file, unpacked; each counts against the allowance.

    Raises:
        BadSource: it is damaged, ends too early or unpacks to too much.
    """
    if packing is None:
        with path.open("rb") as plain:
            while piece := plain.read(CHUNK_BYTES):
                yield piece
        return
    # Reading goes through here alone, so that a fault of the disk would be told as one of the file.
    with path.open("rb") as file, closing(_OPENERS[packing](file)) as pieces:
        while True:
            try:
                piece = next(pieces, b"")
            except _DAMAGE as error:
                raise BadSource(f"The {packing} file is damaged or cut off: it can't be unpacked.") from error
            if not piece:
                return
            allowance.spend(len(piece))
            yield piece


def _pieces(file: BinaryIO) -> Pieces:
    while piece := file.read(CHUNK_BYTES):
        yield piece


def _gzip(file: BinaryIO) -> Pieces:
    with gzip.GzipFile(fileobj=file) as opened:
        yield from _pieces(opened)  # type: ignore[arg-type]  # it reads like one


def _bzip2(file: BinaryIO) -> Pieces:
    with bz2.BZ2File(file) as opened:
        yield from _pieces(opened)  # type: ignore[arg-type]  # it reads like one


def _xz(file: BinaryIO) -> Pieces:
    """Streams one after the other; the reader of the standard library sets no limit to their memory."""
    waiting = file.read(CHUNK_BYTES)
    while waiting:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
        while not unpacker.eof:
            if unpacker.needs_input and not waiting and not (waiting := file.read(CHUNK_BYTES)):
                raise EOFError
            if piece := unpacker.decompress(waiting, CHUNK_BYTES):
                yield piece
            waiting = b""
        waiting = (unpacker.unused_data or file.read(CHUNK_BYTES)).lstrip(b"\0")


_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_OPENERS: dict[str, Callable[[BinaryIO], Pieces]] = {"gzip": _gzip, "bzip2": _bzip2, "xz": _xz}
