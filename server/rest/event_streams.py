"""Server-sent events that end with the credential that asked for them, and are not silent for long."""

from collections.abc import AsyncGenerator
from typing import TypeVar

from server.admitted import Admitted, Quiet, StreamOver
from server.auth.principal import Principal
from server.auth.sockets import SocketRegistry
from server.errors import RateLimited, Unauthenticated
from server.rest.openai import to_json

T = TypeVar("T")

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
