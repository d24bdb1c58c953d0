"""What every message carries, whoever sends it."""

from datetime import UTC, datetime

import msgspec
from uuid_utils import uuid4


def _new_id() -> str:
    # Random bytes of the process's own generator: one system call an id is a tenth of what a small job costs.
    return uuid4().hex


def _now() -> datetime:
    return datetime.now(UTC)


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="tag"):
    """Something one process tells another.

    Trace context is not in here: it travels in the message headers (see ``bus.tracing``).
    Fields are only ever added, with defaults, so that the previous release can read this one.
    """

    id: str = msgspec.field(default_factory=_new_id)
    at: datetime = msgspec.field(default_factory=_now)


class Command(Message, frozen=True, kw_only=True):
    """An order, named in the imperative."""


class Event(Message, frozen=True, kw_only=True):
    """A fact, named in the past tense."""
