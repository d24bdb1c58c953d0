"""Messages that nobody could work on: kept with their bytes, their headers, and why."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from bus.errors import BusError

CODE = "Towhee-Dead-Code"
REASON = "Towhee-Dead-Reason"
ATTEMPT = "Towhee-Dead-Attempt"
DELIVERIES = "Towhee-Dead-Deliveries"
SUBJECT = "Towhee-Dead-Subject"
_OURS = frozenset({CODE, REASON, ATTEMPT, DELIVERIES, SUBJECT})
#: The server acts on headers of its own, so those of the message are kept under another name.
_SERVERS_PREFIX = "Nats-"
_KEPT_PREFIX = "Towhee-Original-"

_MAX_REASON_CHARS = 500

#: A tag that no release running here knows, after all the patience there is.
UNKNOWN_SCHEMA = "unknown-schema"
#: No message of ours.
MALFORMED = "malformed"
#: The consumer's limit on deliveries was reached.
MAX_DELIVERIES = "max-deliveries"


class NoSuchLetter(BusError):
    """No dead letter has this id: it was dropped, sent again or too old."""


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """Why a message is given up."""

    #: For programs: an ErrorCode of the public contract, or one of the constants of this module.
    code: str
    #: For a person.
    reason: str
    #: Of the job, where it was claimed; 0 where it was not.
    attempt: int = 0


class Store(Protocol):
    """Publishes bytes into a stream until they are acknowledged."""

    async def __call__(self, subject: str, raw: bytes, headers: dict[str, str], deadline_s: float, /) -> None:
        """Publish."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was given up."""

    id: int
    #: When it was given up.
    at: datetime
    #: Where it had been published.
    subject: str
    #: As they were.
    headers: Mapping[str, str]
    raw: bytes
    code: str
    reason: str
    attempt: int
    num_delivered: int


class DeadLetters(Protocol):
    """What can be done about dead letters."""

    async def read(self, *, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """Return letters with a larger id than ``after``, oldest first."""

    async def get(self, letter_id: int) -> DeadLetter:
        """Return one letter.

        Raises:
            NoSuchLetter: there is none with this id.
        """

    async def send_again(self, letter: DeadLetter) -> None:
        """Publish the bytes where they were published before, as a new message."""

    async def drop(self, letter_id: int) -> None:
        """Forget a letter; one that is gone is no error."""

    async def move(self, *, wait_s: float) -> int:
        """Copy what has reached its consumer's limit on deliveries, remove it, and return the number.

        Waits up to ``wait_s`` for the first. What the server tells of the limit is stored by itself, so
        nothing is missed while nobody asks.
        """


def headers_of(
    headers: Mapping[str, str], *, subject: str, num_delivered: int, death: Death
) -> dict[str, str]:
    """Return the headers a dead letter is stored with."""
    kept = {
        f"{_KEPT_PREFIX}{name}" if name.startswith(_SERVERS_PREFIX) else name: value
        for name, value in headers.items()
    }
    reason = " ".join(death.reason.split())[:_MAX_REASON_CHARS]
    return kept | {
        CODE: death.code,
        # Headers are lines of ASCII.
        REASON: reason.encode("ascii", "backslashreplace").decode(),
        ATTEMPT: str(death.attempt),
        DELIVERIES: str(num_delivered),
        SUBJECT: subject,
    }


def letter_of(letter_id: int, at: datetime, headers: Mapping[str, str], raw: bytes) -> DeadLetter:
    """Read a stored dead letter."""
    return DeadLetter(
        id=letter_id,
        at=at,
        subject=headers.get(SUBJECT, ""),
        headers={
            name.removeprefix(_KEPT_PREFIX): value
            for name, value in headers.items()
            if name not in _OURS and not name.startswith(_SERVERS_PREFIX)
        },
        raw=raw,
        code=headers.get(CODE, ""),
        reason=headers.get(REASON, ""),
        attempt=int(headers.get(ATTEMPT, "0")),
        num_delivered=int(headers.get(DELIVERIES, "0")),
    )
