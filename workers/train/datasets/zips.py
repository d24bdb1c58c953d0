"""ZIP archives read in bounded memory.

Python's own reader holds the whole directory in memory, a million entries in a gigabyte, and believes what it
says. This one goes through the directory entry by entry (APPNOTE 6.3, 4.3 and 4.4).
"""

import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from workers.train.datasets.facts import BadRow, BadSource
from workers.train.datasets.members import Member, clean_name
from workers.train.datasets.streams import CHUNK_BYTES, Allowance, too_large

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s4B4H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX_COMMENT = 1 << 16
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _UTF8 = 0x1, 0x800
_UNIX = 3
_IN_EXTRA_16, _IN_EXTRA_32 = 0xFFFF, 0xFFFFFFFF
_ZIP64 = 1


class Entry(NamedTuple):
    """A file as the directory has it; ``offset`` is where its local header should be."""

    name: str
    flags: int
    method: int
    crc: int
    packed_bytes: int
    num_bytes: int
    offset: int
    mode: int


class ZipArchive:
    """A ZIP file. Whatever is unpacked of it counts against the allowance."""

    def __init__(self, path: Path, allowance: Allowance) -> None:
        self._path = path
        self._allowance = allowance

    def members(self) -> Iterator[Member]:
        """Its files in the order of its directory.

        Raises:
            BadSource: its directory is damaged, or says that it unpacks to too much.
        """
        declared_bytes = 0
        for entry in self.entries():
            declared_bytes += entry.num_bytes
            if declared_bytes > self._allowance.limit_bytes:
                raise too_large(self._allowance.limit_bytes)
            if not entry.name.endswith("/"):
                name, problem = clean_name(entry.name)
                yield Member(name, entry.num_bytes, problem or _problem(entry), partial(self._unpack, entry))

    def entries(self) -> Iterator[Entry]:
        """All that the directory names."""
        try:
            with self._path.open("rb") as file:
                yield from _entries(file)
        except (struct.error, OverflowError, ValueError) as error:
            raise _damaged() from error

    def _unpack(self, entry: Entry) -> Iterator[bytes]:
        crc = num_bytes = 0
        with self._path.open("rb") as file:
            for piece in _inflated(file, entry):
                self._allowance.spend(len(piece))
                crc = zlib.crc32(piece, crc)
                num_bytes += len(piece)
                if num_bytes > entry.num_bytes:
                    raise BadRow("is damaged: it unpacks to more than the archive says")
                yield piece
        if num_bytes != entry.num_bytes or crc != entry.crc:
            raise BadRow("is damaged: its checksum is wrong")


def _damaged() -> BadSource:
    return BadSource("The ZIP archive is damaged or cut off: its directory can't be read.")


def _problem(entry: Entry) -> str | None:
    if entry.flags & _ENCRYPTED:
        return "is encrypted: pack it without a password"
    if entry.mode and not stat.S_ISREG(entry.mode) and stat.S_IFMT(entry.mode):
        return "is a link" if stat.S_ISLNK(entry.mode) else "is no ordinary file"
    if entry.method not in (_STORED, _DEFLATED):
        return f"is packed by method {entry.method}: pack it with Deflate"
    return None


def _entries(file: BinaryIO) -> Iterator[Entry]:
    start, num_bytes, shift = _directory(file)
    file.seek(start)
    left = num_bytes
    while left >= _ENTRY.size:
        fields = _ENTRY.unpack(file.read(_ENTRY.size))
        if fields[0] != b"PK\x01\x02":
            raise _damaged()
        lengths = fields[12:15]
        rest = file.read(sum(lengths))
        left -= _ENTRY.size + sum(lengths)
        if len(rest) != sum(lengths) or left < 0:
            raise _damaged()
        yield _entry(fields, rest, shift)


def _entry(fields: tuple[int, ...], rest: bytes, shift: int) -> Entry:
    raw = rest[: fields[12]]
    extra = rest[fields[12] : fields[12] + fields[13]]
    wanted = {"num_bytes": fields[11], "packed_bytes": fields[10], "offset": fields[18]}
    large = _large_numbers(extra)
    # The 64-bit numbers stand in this order, and only those that do not fit in 32 bits.
    found = {name: next(large) if value == _IN_EXTRA_32 else value for name, value in wanted.items()}
    return Entry(
        name=raw.decode("utf-8" if fields[5] & _UTF8 else "cp437", "replace"),
        flags=fields[5],
        method=fields[6],
        crc=fields[9],
        packed_bytes=found["packed_bytes"],
        num_bytes=found["num_bytes"],
        offset=found["offset"] + shift,
        mode=fields[17] >> 16 if fields[2] == _UNIX else 0,
    )


def _large_numbers(extra: bytes) -> Iterator[int]:
    while len(extra) >= 4:  # noqa: PLR2004  two 16-bit numbers: a tag and a length
        tag, length = struct.unpack_from("<2H", extra)
        if tag == _ZIP64:
            for at in range(4, 4 + length - 7, 8):
                yield from struct.unpack_from("<Q", extra, at)
        extra = extra[4 + length :]
    while True:
        raise _damaged()


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Where the directory starts, how long it is, and how far everything is behind where it says it is."""
    size = file.seek(0, 2)
    tail_at = max(0, size - _MAX_COMMENT - _END.size)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise _damaged()
    fields = _END.unpack_from(tail, at)
    num_bytes, start, end = fields[5], fields[6], tail_at + at
    if _IN_EXTRA_16 in fields[1:5] or _IN_EXTRA_32 in fields[5:7]:
        end, num_bytes, start = _directory_64(file, end, num_bytes, start)
    shift = end - num_bytes - start
    if shift < 0:
        raise _damaged()
    return start + shift, num_bytes, shift


def _directory_64(file: BinaryIO, end: int, num_bytes: int, start: int) -> tuple[int, int, int]:
    if end < _LOCATOR.size:
        return end, num_bytes, start
    file.seek(end - _LOCATOR.size)
    magic, _, at, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
    if magic != b"PK\x06\x07":
        return end, num_bytes, start
    # Something may stand before the archive, so that it isn't where it says: it ends where the locator
    # starts.
    for place in (at, end - _LOCATOR.size - _END_64.size):
        if not 0 <= place < end:
            continue
        file.seek(place)
        found = file.read(_END_64.size)
        if found[:4] == b"PK\x06\x06":
            fields = _END_64.unpack(found)
            return place, fields[8], fields[9]
    raise _damaged()


def _inflated(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    header = b""
    if entry.offset < file.seek(0, 2):
        file.seek(entry.offset)
        header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise BadRow("is damaged: it isn't where the archive says")
    fields = _LOCAL.unpack(header)
    file.seek(fields[9] + fields[10], 1)
    unpack = _UNPACKERS[entry.method]
    yield from unpack(file, entry.packed_bytes)


def _stored(file: BinaryIO, left: int) -> Iterator[bytes]:
    while left > 0 and (piece := file.read(min(left, CHUNK_BYTES))):
        left -= len(piece)
        yield piece


def _deflated(file: BinaryIO, left: int) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for packed in _stored(file, left):
            waiting = packed
            while waiting and not unpacker.eof:
                yield unpacker.decompress(waiting, CHUNK_BYTES)
                waiting = unpacker.unconsumed_tail
        while not unpacker.eof and (piece := unpacker.decompress(b"", CHUNK_BYTES)):
            yield piece
    except zlib.error as error:
        raise BadRow("is damaged: it can't be unpacked") from error


_UNPACKERS: dict[int, Callable[[BinaryIO, int], Iterator[bytes]]] = {_STORED: _stored, _DEFLATED: _deflated}
