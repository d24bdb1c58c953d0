"""Running text, cut into pieces that give it again when they are put together."""

import codecs
from collections.abc import Iterator
from itertools import chain

from workers.train.datasets.facts import BadSource, Issue, Limits, Reading, Row, Split
from workers.train.datasets.streams import CHUNK_BYTES, Read

#: Characters of a piece at most.
MAX_PIECE = 2000
_FEW_PARAGRAPHS = 3
#: Up to so many pieces, the least characters of each.
_LEAST = ((10_000, 0), (1_000_000, 200), (float("inf"), 1600))


def read_plain(read: Read, limits: Limits) -> Reading:
    """A text as rows: paragraphs, cut at ends of lines and words where they are long."""
    del limits  # no piece can be large
    return Reading("texts", numbered(pieces_of(characters(read))), is_running_text=True)


def numbered(pieces: Iterator[str], split: Split | None = None) -> Iterator[Row | Issue]:
    """Pieces as rows, counted from 1."""
    for number, piece in enumerate(pieces, 1):
        if "\0" in piece:
            yield Issue(number, "text holds a NUL byte")
        else:
            yield Row(number, piece, split=split)


def characters(read: Read) -> Iterator[str]:
    """UTF-8 decoded as it comes, without its mark, ends of lines made one.

    Raises:
        BadSource: a byte is no UTF-8; the message says which and where.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    done = 0
    carried = ""
    ended = False
    while not ended:
        chunk = read(CHUNK_BYTES)
        ended = not chunk
        waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final=ended)
        except UnicodeDecodeError as error:
            at = done - waiting + error.start
            raise BadSource(
                f"The text is not UTF-8: byte 0x{error.object[error.start]:02X} at {at:,}. Save it as UTF-8."
            ) from error
        done += len(chunk)
        text = carried + text
        # A carriage return at the end may be one half of an end of line.
        carried = "\r" if text.endswith("\r") and not ended else ""
        text = text.removesuffix("\r") if carried else text
        yield text.replace("\r\n", "\n").replace("\r", "\n")


def pieces_of(parts: Iterator[str]) -> Iterator[str]:
    """Pieces of at most `MAX_PIECE` characters and what line ends follow; none is blank.

    They end where paragraphs do, or lines where the beginning has no paragraphs.
    """
    held = next(parts, "")
    ending = "\n\n" if held.count("\n\n") >= _FEW_PARAGRAPHS else "\n"
    count = 0
    for part in chain(parts, [None]):
        at = 0
        while at < len(held) - (2 * MAX_PIECE if part is not None else 0):
            # A long text has larger pieces, so that the number of its rows stays bounded.
            least = next(least for most, least in _LEAST if count < most)
            end = _end(held, at, ending, least)
            if not held[at:end].isspace():
                count += 1
                yield held[at:end]
            at = end
        held = held[at:] + (part or "")


def _end(held: str, at: int, ending: str, least: int) -> int:
    """Where the piece ends that starts at ``at``."""
    first = at
    while first < len(held) and held[first].isspace():
        first += 1  # blanks belong to what follows them
    most = min(first, at + MAX_PIECE) + MAX_PIECE
    end = held.find(ending, first + least, most)
    if end < 0 and len(held) <= most:
        return len(held)
    if end < 0:
        breaks = (held.rfind(sign, first, most) for sign in ("\n", " "))
        return next((found + 1 for found in breaks if found >= 0), most)
    while held[end : end + 1] == "\n" and end < most + MAX_PIECE:
        end += 1
    return end
