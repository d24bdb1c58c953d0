"""tar archives, packed or not, read in one direction and in bounded memory.

Python's own reader keeps every member it has seen, and takes as much memory for a member's extended header as
the member says it is long. Here both have limits (POSIX.1-2017 pax, "ustar"; GNU long names).
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from workers.train.datasets.facts import BadSource
from workers.train.datasets.members import Member, clean_name
from workers.train.datasets.streams import CHUNK_BYTES, Allowance, Read, read_exactly, reader_of, too_large
from workers.train.datasets.unpacking import unpacked

BLOCK_BYTES = 512
_MAX_EXTENSION_BYTES = 1 << 20
_REGULAR = frozenset({b"0", b"\0", b"7"})
_FOLDER = b"5"
_PROBLEMS = {
    b"1": "is a hard link", b"2": "is a symbolic link", b"3": "is a device", b"4": "is a device",
    b"6": "is a pipe", b"S": "is a sparse file",
}  # fmt: skip
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"


class _Header(NamedTuple):
    name: str
    num_bytes: int
    kind: bytes


class TarArchive:
    """A tar file; every pass unpacks it anew."""

    def __init__(self, path: Path, packing: str | None, packed_allowance_bytes: int) -> None:
        self._path = path
        self._packing = packing
        self._allowance_bytes = packed_allowance_bytes

    def members(self) -> Iterator[Member]:
        """Its files in its own order.

        Raises:
            BadSource: it is damaged, ends too early or unpacks to too much.
        """
        chunks = unpacked(self._path, self._packing, Allowance(self._allowance_bytes))
        read = reader_of(chunks)
        for header in _headers(read, self._allowance_bytes):
            body = _Body(read, header.num_bytes)
            if header.kind != _FOLDER:
                name, problem = clean_name(header.name)
                if header.kind not in _REGULAR:
                    problem = _PROBLEMS.get(header.kind, "is no ordinary file")
                yield Member(name, header.num_bytes, problem, body.chunks)
            body.skip()


class _Body:
    """What follows a header: the content, filled up to whole blocks."""

    def __init__(self, read: Read, num_bytes: int) -> None:
        self._read = read
        self._left = num_bytes
        self._filling = -num_bytes % BLOCK_BYTES

    def chunks(self) -> Iterator[bytes]:
        while self._left:
            piece = self._read(min(self._left, CHUNK_BYTES))
            if not piece:
                raise _cut_off()
            self._left -= len(piece)
            yield piece

    def skip(self) -> None:
        for _ in self.chunks():
            pass
        if len(read_exactly(self._read, self._filling)) < self._filling:
            raise _cut_off()


def _cut_off() -> BadSource:
    return BadSource("The tar archive is cut off: it ends in the middle of a file.")


def _damaged() -> BadSource:
    return BadSource("The tar archive is damaged: a header can't be read.")


def _headers(read: Read, most: int) -> Iterator[_Header]:
    """The headers of members; whoever asks for the next has read the content of the one before."""
    extended: dict[str, str] = {}
    while True:
        block = read_exactly(read, BLOCK_BYTES)
        if not block.strip(b"\0"):
            if len(block) < BLOCK_BYTES:
                raise _cut_off()
            return
        header = parse_header(block)
        if header is None:
            raise _damaged()
        if header.kind in (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK):
            found = _extension(read, header)
            extended |= found if header.kind != _PAX_GLOBAL else {}
            continue
        num_bytes = header.num_bytes
        with suppress(ValueError):
            num_bytes = int(extended.get("size", num_bytes))
        if header.kind not in _REGULAR:
            # Links and devices have no content, whatever their size says (POSIX.1-2017, pax).
            num_bytes = num_bytes if header.kind not in _PROBLEMS or header.kind == b"S" else 0
        if not 0 <= num_bytes <= most:
            raise too_large(most)
        yield _Header(extended.get("path", header.name), num_bytes, header.kind)
        extended = {}


def parse_header(block: bytes) -> _Header | None:
    """A header out of its block; None where its checksum is wrong."""
    try:
        checksum = int(block[148:156].strip(b" \0") or b"-1", 8)
    except ValueError:
        return None
    if len(block) != BLOCK_BYTES or checksum != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        return None
    name = _string(block[:100])
    if block[257:262] == b"ustar" and block[345:346] != b"\0" and block[257:265] != b"ustar  \0":
        name = f"{_string(block[345:500])}/{name}"
    kind = block[156:157]
    if name.endswith("/") and kind in _REGULAR:
        kind = _FOLDER  # before POSIX, folders were told by their names
    return _Header(name, _number(block[124:136]), kind)


def _string(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


def _number(field: bytes) -> int:
    """Octal digits, or GNU's binary form, whose first bit is set; -1 where it is neither."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return -1


def _extension(read: Read, header: _Header) -> dict[str, str]:
    if not 0 <= header.num_bytes <= _MAX_EXTENSION_BYTES:
        raise _damaged()
    padded = header.num_bytes + -header.num_bytes % BLOCK_BYTES
    content = read_exactly(read, padded)
    if len(content) < padded:
        raise _cut_off()
    content = content[: header.num_bytes]
    if header.kind == _LONG_NAME:
        return {"path": _string(content)}
    return _pax_records(content) if header.kind == _PAX else {}


def _pax_records(content: bytes) -> dict[str, str]:
    """Records of ``<length> <key>=<value>`` and an end of line."""
    found = {}
    while content:
        length, _, _ = content.partition(b" ")
        if not length.isdigit() or not len(length) < int(length) <= len(content):
            raise _damaged()
        record, content = content[len(length) + 1 : int(length) - 1], content[int(length) :]
        key, _, value = record.partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return found
