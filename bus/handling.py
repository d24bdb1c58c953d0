"""Run the code of another room for a message that has arrived; its failures end here."""

import logging
from collections.abc import Mapping

from bus import codec, tracing
from bus.errors import MalformedMessage, UnknownMessage
from bus.port import Handler, Responder

_log = logging.getLogger(__name__)


async def handle(subject: str, raw: bytes, headers: Mapping[str, str], handler: Handler) -> None:
    """Call a follower; what cannot be read is dropped, and no failure reaches the subscription."""
    try:
        message = codec.decode(raw)
    except (MalformedMessage, UnknownMessage) as error:
        _log.warning("%s: dropped a message: %r", subject, error)
        return
    with tracing.following(subject, headers):
        try:
            await handler(message)
        except Exception:  # noqa: BLE001 - the edge between rooms
            # The subscription serves messages to come; this one's failure is the follower's own.
            _log.exception("%s: a follower failed on %s", subject, type(message).__name__)


async def respond(subject: str, raw: bytes, headers: Mapping[str, str], responder: Responder) -> bytes | None:
    """Return the encoded answer, or None if there is none: who asked is told so at once."""
    try:
        message = codec.decode(raw)
    except (MalformedMessage, UnknownMessage) as error:
        _log.warning("%s: cannot read a question: %r", subject, error)
        return None
    with tracing.processing(subject, headers):
        try:
            return codec.encode(await responder(message))
        except Exception:  # noqa: BLE001 - the edge between rooms
            # Others ask too; this one gets no answer and the log gets the reason.
            _log.exception("%s: no answer to %s", subject, type(message).__name__)
            return None
