"""Bytes that come in pieces, with a limit to everything that is held."""

from collections.abc import Callable, Iterator
from pathlib import Path

from workers.train.datasets.facts import BadSource

CHUNK_BYTES = 64 << 10
#: Gives the next bytes, at most so many; none at the end.
Read = Callable[[int], bytes]
_MARK = b"\xef\xbb\xbf"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Allowance:
    """How many bytes a source may still unpack to."""

    def __init__(self, num_bytes: int) -> None:
        self.limit_bytes = num_bytes
        self.left_bytes = num_bytes

    def spend(self, num_bytes: int) -> None:
        """Count bytes that were, or will be, unpacked.

        Raises:
            BadSource: they are more than are allowed.
        """
        self.left_bytes -= num_bytes
        if num_bytes < 0 or self.left_bytes < 0:
            raise too_large(self.limit_bytes)


def too_large(limit_bytes: int) -> BadSource:
    """What a source is told that unpacks to too much."""
    return BadSource(f"It unpacks to more than the {limit_bytes >> 20:,} MiB that are allowed for its size.")


def reader_of(chunks: Iterator[bytes]) -> Read:
    """Pieces of any size, read as a file."""
    rest = b""

    def read(num_bytes: int) -> bytes:
        nonlocal rest
        if not rest:
            rest = next(chunks, b"")
        piece, rest = rest[:num_bytes], rest[num_bytes:]
        return piece

    return read


def file_reader(path: Path) -> Read:
    """A file, which is closed at its end or when it is forgotten."""

    def chunks() -> Iterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece

    return reader_of(chunks())


def read_exactly(read: Read, num_bytes: int) -> bytes:
    """``num_bytes`` bytes, or fewer where the source ends before."""
    pieces = []
    while num_bytes > 0 and (piece := read(min(num_bytes, CHUNK_BYTES))):
        pieces.append(piece)
        num_bytes -= len(piece)
    return b"".join(pieces)


def lines(read: Read, most: int) -> Iterator[tuple[bytes, bool]]:
    """Each line without its end, and whether it was cut because it has more than ``most`` bytes.

    Raises:
        BadSource: the text is in UTF-16.
    """
    rest, is_cut = _first(read), False
    ended = False
    while not ended:
        chunk = read(CHUNK_BYTES)
        ended = not chunk
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if not is_cut:
                yield (line.removesuffix(b"\r"), False) if len(line) <= most else (line[:most], True)
            is_cut = False
        if is_cut:
            rest = b""
        elif len(rest) > most:
            yield rest[:most], True
            rest, is_cut = b"", True
    if rest:
        yield rest.removesuffix(b"\r"), False


def _first(read: Read) -> bytes:
    """The first bytes without the mark of UTF-8."""
    first = read_exactly(read, len(_MARK))
    if first[:2] in _WIDE_MARKS:
        raise BadSource("The text is in UTF-16, its first bytes say: save it as UTF-8.")
    return first.removeprefix(_MARK)
