"""Server-sent events that end with the credential that asked for them, and are not silent for long."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

from litestar.params import HeaderParameter
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK

from server.admitted import Admitted, Quiet, StreamOver
from server.auth.principal import Principal
from server.auth.sockets import SocketRegistry
from server.errors import NotFound, RateLimited, Unauthenticated
from server.records import JobEventRecord
from server.rest.openai import to_json

T = TypeVar("T")

LastEventId = Annotated[
    str | None,
    HeaderParameter(name="Last-Event-ID", description="The id of the last event that was seen."),
]
#: Gives an event its name and its own fields.
Describe = Callable[[JobEventRecord], tuple[str, dict[str, Any]]]

#: Proxies give up connections that are silent for a minute; a comment tells them that this one is not dead.
IDLE_S = 15.0
COMMENT = b":\n\n"


def encode_event(event_id: str, name: str, data: object) -> bytes:
    """Write one event.

    Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), name.encode(), to_json(data))


async def until_revoked(
    items: AsyncGenerator[T, None], *, principal: Principal, sockets: SocketRegistry, idle_s: float = IDLE_S
) -> AsyncGenerator[T | None, None]:
    """Pass items on until there are no more or the caller's credential ends; None after a while without any.

    ``items`` is closed at the end, however that comes.
    """
    try:
        async with Admitted(items, principal=principal, sockets=sockets) as admitted:
            while True:
                item: T | None
                try:
                    item = await admitted.next(idle_s=idle_s)
                except Quiet:
                    item = None
                except StreamOver:
                    return
                yield item
    except (Unauthenticated, RateLimited):
        # It came within this request; the client hears so when it comes back.
        return


def stream_events(
    events: AsyncGenerator[JobEventRecord, None],
    describe: Describe,
    *,
    principal: Principal,
    sockets: SocketRegistry,
) -> Stream:
    """Answer with a job's events until there are no more or the caller's credential ends.

    Raises:
        RateLimited: the caller follows enough already.
    """
    sockets.require_room(principal)
    return Stream(
        _server_sent(until_revoked(events, principal=principal, sockets=sockets), describe),
        status_code=HTTP_200_OK,
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _server_sent(
    events: AsyncGenerator[JobEventRecord | None, None], describe: Describe
) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        try:
            async for event in events:
                if event is None:
                    yield COMMENT
                    continue
                name, data = describe(event)
                yield encode_event(event.cursor, name, {**data, "attempt": event.attempt, "at": event.at})
        except NotFound:
            # Deleted while it was read; the client hears so when it comes back.
            return
