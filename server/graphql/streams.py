"""Streams that end with the credential that asked for them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TypeVar

from server.auth.principal import Principal
from server.auth.sockets import SocketRegistry

T = TypeVar("T")


async def until_revoked(
    stream: AsyncGenerator[T, None], sockets: SocketRegistry, principal: Principal
) -> AsyncGenerator[T, None]:
    """Pass a stream on until the principal's credential ends.

    Raises:
        Unauthenticated: it has ended already.
    """
    revoked = asyncio.Event()

    async def end(_code: int, _reason: str) -> None:
        revoked.set()

    handle = await sockets.admit(principal, end)
    ended = asyncio.create_task(revoked.wait(), name="stream revocation")
    upcoming: asyncio.Future[T] | None = None
    try:
        while True:
            upcoming = asyncio.ensure_future(anext(stream))
            await asyncio.wait({upcoming, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return
            try:
                item = upcoming.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        sockets.release(handle)
        ended.cancel()
        if upcoming is not None:
            upcoming.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await upcoming
        await stream.aclose()
