"""What both buses do alike with what comes out of a stream."""

import math
from typing import Protocol

from bus.dead_letters import MALFORMED, UNKNOWN_SCHEMA, Death
from bus.errors import BusError, MalformedMessage, UnknownMessage

#: A newer release sent it, and somebody of that release may pull next.
UNKNOWN_DELAY_S = 60.0
#: After this many deliveries nobody is expected to come any more.
_UNKNOWN_DELIVERIES = 2
#: Headers of NATS itself.
MESSAGE_ID = "Nats-Msg-Id"
MESSAGE_TTL = "Nats-TTL"
#: Said by an answer that is none (the convention of NATS services, ADR-32).
ERROR_CODE = "Nats-Service-Error-Code"


class Settleable(Protocol):
    """What can be handed back or given up."""

    num_delivered: int

    async def nak(self, *, delay_s: float = 0.0) -> None:
        """Give it back."""

    async def dead_letter(self, death: Death) -> None:
        """Keep a copy with the reason, and remove it."""


class AlreadySettled(BusError):
    """A delivery is settled once; whoever settles it twice has lost track of it."""


def whole_seconds(ttl_s: float) -> int:
    """Return a time to live as the server takes it: whole seconds, at least one, never less than asked."""
    return max(1, math.ceil(ttl_s))


async def settle_unreadable(delivery: Settleable, error: MalformedMessage | UnknownMessage) -> None:
    """Give up what nobody can read; hand back, twice, what a newer release may."""
    if isinstance(error, UnknownMessage) and delivery.num_delivered <= _UNKNOWN_DELIVERIES:
        await delivery.nak(delay_s=UNKNOWN_DELAY_S)
    elif isinstance(error, UnknownMessage):
        reason = f"No worker or server here knows messages tagged {error}."
        await delivery.dead_letter(Death(code=UNKNOWN_SCHEMA, reason=reason))
    else:
        await delivery.dead_letter(Death(code=MALFORMED, reason=str(error)))
