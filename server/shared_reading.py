"""Many who read the same thing at the same time read it once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class SharedReads(Generic[K, V]):
    """Readings under way, by key; none is kept when it is over.

    A reading that nobody waits for any more is given up.
    """

    def __init__(self) -> None:
        self._readings: dict[K, _Reading[V]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being read."""
        return not self._readings

    async def read(self, key: K, read: Callable[[], Awaitable[V]], *, is_fresh: bool) -> V:
        """Read, or share what somebody else reads.

        Args:
            key: what is read.
            read: how.
            is_fresh: share only a reading that has not begun yet, so that it sees all that has happened up to
                now. False for what never changes.

        Raises:
            Exception: whatever the reading has raised, to each who shares it.
        """
        reading = self._readings.get(key)
        if reading is None or (is_fresh and reading.has_begun):
            reading = self._readings[key] = _Reading(read)
        reading.num_waiting += 1
        try:
            # A reader that goes away must not take it from the others.
            return await asyncio.shield(reading.task)
        finally:
            reading.num_waiting -= 1
            if not reading.num_waiting:
                reading.task.cancel()
            if (not reading.num_waiting or reading.task.done()) and self._readings.get(key) is reading:
                del self._readings[key]


class _Reading(Generic[V]):
    def __init__(self, read: Callable[[], Awaitable[V]]) -> None:
        self.num_waiting = 0
        self.has_begun = False
        #: Begins at the next turn of the loop: all who were woken together share it.
        self.task: asyncio.Task[V] = asyncio.create_task(self._run(read))
        # Nobody may be left to hear of its error.
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def _run(self, read: Callable[[], Awaitable[V]]) -> Coroutine[Any, Any, V]:
        async def run() -> V:
            self.has_begun = True
            return await read()

        return run()
