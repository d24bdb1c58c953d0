"""What is done for somebody who has hung up need not be finished."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

T = TypeVar("T")
Receive = Callable[[], Awaitable[Mapping[str, Any]]]

#: Work that is done sooner is not watched: the watching would cost more than it could save.
_GRACE_S: Final = 0.05


class ClientGone(Exception):
    """The client closed its connection before it had the answer."""


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """Wait for ``work``, and cancel it when the client goes.

    Call this when the whole request body has been read: ASGI then has only the disconnect left to say
    (ASGI HTTP specification, "Disconnect").

    Raises:
        ClientGone: the client went first.
    """
    caller = asyncio.current_task()
    if caller is None:
        raise RuntimeError("while_connected runs inside a task")
    watcher = _Watcher(receive, caller)
    timer = asyncio.get_running_loop().call_later(_GRACE_S, watcher.start)
    try:
        return await work
    except asyncio.CancelledError as error:
        if watcher.has_seen_it and caller.uncancel() == 0:
            raise ClientGone from error
        raise
    finally:
        timer.cancel()
        watcher.stop()


class _Watcher:
    """Waits for the disconnect, and cancels the caller."""

    def __init__(self, receive: Receive, caller: asyncio.Task[Any]) -> None:
        self._receive = receive
        self._caller = caller
        self._task: asyncio.Task[None] | None = None
        self.has_seen_it = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.has_seen_it = True
        self._caller.cancel()
