"""Server-sent events that end with the credential that asked for them, and are not silent for long."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

from server.auth.principal import Principal
from server.auth.sockets import SocketRegistry
from server.errors import Unauthenticated
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
    revoked = asyncio.Event()

    async def end(_code: int, _reason: str) -> None:
        revoked.set()

    try:
        handle = await sockets.admit(principal, end)
    except Unauthenticated:
        # It ended within this request; the client hears so when it comes back.
        return
    ended = asyncio.create_task(revoked.wait(), name="stream revocation")
    upcoming: asyncio.Future[T] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(anext(items))
            either: set[asyncio.Future[Any]] = {upcoming, ended}
            await asyncio.wait(either, timeout=idle_s, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return
            if not upcoming.done():
                yield None
                continue
            try:
                item = upcoming.result()
            except StopAsyncIteration:
                return
            upcoming = None
            yield item
    finally:
        sockets.release(handle)
        ended.cancel()
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.wait({upcoming})
        await items.aclose()
