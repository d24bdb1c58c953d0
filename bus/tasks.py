"""Work that goes on behind a call, kept in hand until it ends."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Tasks:
    """Tasks of one owner: none is lost to the garbage collector, none fails in silence."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, _T], what: str) -> asyncio.Task[_T]:
        """Start ``work``; a failure is logged as ``what``."""
        task = asyncio.get_running_loop().create_task(work, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("%s failed: %r", task.get_name(), error)

    async def join(self) -> None:
        """Wait for all of them, those that start meanwhile included; one of them does not wait for itself."""
        while others := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def cancel(self) -> None:
        """Cancel all of them and wait for their end."""
        for task in tuple(self._tasks):
            task.cancel()
        await self.join()
