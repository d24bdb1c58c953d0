"""The JetStream API as JSON over requests, which is all it is (ADR-1, ADR-13).

We speak it ourselves where nats-py's own layer above it hides what a status said, retries on a guess,
or leaves futures unresolved.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from bus.channel import TRANSIENT
from bus.connection import Connection
from bus.errors import BusError, BusUnavailable

PREFIX = "$JS.API"
#: HTTP-like code of "try again later": no leader, not ready yet.
UNAVAILABLE = 503

_ENCODER = msgspec.json.Encoder()


class ApiRefused(BusError):
    """The server answered with an error."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} ({code}, {err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description


class _ErrorPart(msgspec.Struct):
    code: int
    err_code: int = 0
    description: str = ""


class PublishAck(msgspec.Struct):
    """The answer to a publish. ``duplicate`` is left out by the server when it is false."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _ErrorPart | None = None


def read_publish_ack(raw: bytes) -> PublishAck:
    """Read the answer to a publish.

    Raises:
        ApiRefused: the stream did not take the message.
    """
    ack = msgspec.json.decode(raw, type=PublishAck)
    if ack.error is not None:
        raise ApiRefused(ack.error.code, ack.error.err_code, ack.error.description)
    return ack


async def call(
    connection: Connection, operation: str, body: Mapping[str, Any], *, timeout_s: float
) -> dict[str, Any]:
    """Ask the JetStream API to do something and return its answer.

    Raises:
        ApiRefused: it answered with an error.
        BusUnavailable: it did not answer, or is not ready.
        NotPermitted: this credential may not ask for it.
    """
    try:
        answer = await connection.request(f"{PREFIX}.{operation}", _ENCODER.encode(body), timeout_s=timeout_s)
    except TRANSIENT as error:
        raise BusUnavailable(f"{operation}: {error}") from error
    result: dict[str, Any] = msgspec.json.decode(answer.data)
    if "error" in result:
        part = msgspec.convert(result["error"], _ErrorPart)
        if part.code == UNAVAILABLE:
            raise BusUnavailable(f"{operation}: {part.description}")
        raise ApiRefused(part.code, part.err_code, part.description)
    return result
