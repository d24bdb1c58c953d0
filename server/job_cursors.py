"""Where a subscriber is in the history of a job."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from server.errors import InvalidInput

#: At most 18 digits, so that every number fits the bigint column it is compared with.
_POSITION = re.compile(rb"([0-9]{1,18})\.([0-9]{1,9})", re.ASCII)


class Position(msgspec.Struct, frozen=True, order=True):
    """The last record that was read: row ``seq`` of the history, and which record of that row.

    A row about a chunk holds one record an item; every other row holds record 0 alone.
    """

    seq: int
    offset: int

    def encode(self) -> str:
        """Return the opaque cursor of this position."""
        return urlsafe_b64encode(b"%d.%d" % (self.seq, self.offset)).decode()


#: Before the first record of any job.
START = Position(0, 0)


def decode_cursor(cursor: str | None) -> Position:
    """Return the position a cursor stands for; the start of the history for None.

    Raises:
        InvalidInput: not a cursor that ``Position.encode`` made (path ``after``).
    """
    if cursor is None:
        return START
    try:
        match = _POSITION.fullmatch(urlsafe_b64decode(cursor.encode("ascii")))
    except ValueError as error:
        raise _malformed() from error
    position = match and Position(int(match[1]), int(match[2]))
    # One position has one spelling, or equal cursors would compare unequal.
    if not position or position.encode() != cursor:
        raise _malformed()
    return position


def _malformed() -> InvalidInput:
    return InvalidInput("This is no cursor of a job's events.", path=("after",))
