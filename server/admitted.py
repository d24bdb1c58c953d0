"""The items of a stream for as long as the credential that asked for them holds."""

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from server.auth.principal import Principal
from server.auth.sockets import SocketHandle, SocketRegistry

T = TypeVar("T")


class StreamOver(Exception):
    """There are no more items, or the credential has ended."""


class Quiet(Exception):
    """There was no item for a while; the next one is still awaited."""


class Admitted(Generic[T]):
    """Waits for items and for the end of the caller's credential, as a socket would.

    No generator around the generator: one that is closed while it waits for another can close neither, so
    each face writes its own loop around `next`. On leaving, ``items`` is closed, however that comes.
    """

    def __init__(
        self, items: AsyncGenerator[T, None], *, principal: Principal, sockets: SocketRegistry
    ) -> None:
        self._items = items
        self._principal = principal
        self._sockets = sockets
        self._revoked = asyncio.Event()
        self._handle: SocketHandle | None = None
        self._ended: asyncio.Future[Any] | None = None
        self._upcoming: asyncio.Future[T] | None = None

    async def __aenter__(self) -> Self:
        """Register the stream.

        Raises:
            Unauthenticated: the credential has ended within this request.
            RateLimited: the user follows too much already.
        """
        try:
            self._handle = await self._sockets.admit(self._principal, self._end)
        except BaseException:
            await self._items.aclose()
            raise
        self._ended = asyncio.create_task(self._revoked.wait(), name="stream revocation")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release everything."""
        if self._handle is not None:
            self._sockets.release(self._handle)
        if self._ended is not None:
            self._ended.cancel()
        if self._upcoming is not None:
            self._upcoming.cancel()
            await asyncio.wait({self._upcoming})
            if not self._upcoming.cancelled():
                # Looked at, so that asyncio does not report it as unseen.
                self._upcoming.exception()
        await self._items.aclose()

    async def next(self, *, idle_s: float | None = None) -> T:
        """Return the next item.

        Raises:
            StreamOver: there is none any more for this caller.
            Quiet: there was none for ``idle_s``.
        """
        if self._ended is None:
            raise RuntimeError("the stream has not been entered")
        self._upcoming = self._upcoming or asyncio.ensure_future(anext(self._items))
        either: set[asyncio.Future[Any]] = {self._upcoming, self._ended}
        await asyncio.wait(either, timeout=idle_s, return_when=asyncio.FIRST_COMPLETED)
        if self._ended.done():
            raise StreamOver
        if not self._upcoming.done():
            raise Quiet
        upcoming, self._upcoming = self._upcoming, None
        try:
            return upcoming.result()
        except StopAsyncIteration:
            raise StreamOver from None

    async def _end(self, _code: int, _reason: str) -> None:
        self._revoked.set()
