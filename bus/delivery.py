"""What both buses do alike with what comes out of a stream."""

import math
from typing import Protocol

from bus.errors import BusError, MalformedMessage, UnknownMessage

#: A newer release sent it, and somebody of that release may pull next.
UNKNOWN_DELAY_S = 15.0
#: Headers of NATS itself.
MESSAGE_ID = "Nats-Msg-Id"
MESSAGE_TTL = "Nats-TTL"
#: Said by an answer that is none (the convention of NATS services, ADR-32).
ERROR_CODE = "Nats-Service-Error-Code"


class Settleable(Protocol):
    """What can be handed back or removed."""

    async def nak(self, *, delay_s: float = 0.0) -> None:
        """Give it back."""

    async def term(self, reason: str) -> None:
        """Remove it."""


class AlreadySettled(BusError):
    """A delivery is settled once; whoever settles it twice has lost track of it."""


def whole_seconds(ttl_s: float) -> int:
    """Return a time to live as the server takes it: whole seconds, at least one, never less than asked."""
    return max(1, math.ceil(ttl_s))


async def settle_unreadable(delivery: Settleable, error: MalformedMessage | UnknownMessage) -> None:
    """Remove what nobody can read; hand back what a newer release may."""
    if isinstance(error, UnknownMessage):
        await delivery.nak(delay_s=UNKNOWN_DELAY_S)
    else:
        await delivery.term(f"malformed: {error}")
