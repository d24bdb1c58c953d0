"""What is done for somebody who has hung up need not be finished."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
Receive = Callable[[], Awaitable[Mapping[str, Any]]]


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
    has_gone = False

    async def watch() -> None:
        nonlocal has_gone
        while (await receive())["type"] != "http.disconnect":
            pass
        has_gone = True
        caller.cancel()

    # Only the watcher is a task of its own: it is the cheaper half of the two.
    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError as error:
        if has_gone and caller.uncancel() == 0:
            raise ClientGone from error
        raise
    finally:
        watcher.cancel()
