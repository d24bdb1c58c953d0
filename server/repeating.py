"""Work that a service does again and again, in the background, for as long as the process lives."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from bus.errors import BusError
from server.errors import ServiceError

_logger = logging.getLogger(__name__)


class Repeating:
    """Runs ``step`` every ``every_s`` seconds, or as soon as it is woken, until it is closed.

    A step that fails is logged and tried again after ``retry_s``.
    """

    def __init__(
        self, step: Callable[[], Awaitable[None]], *, name: str, every_s: float, retry_s: float = 1.0
    ) -> None:
        self._step = step
        self._name = name
        self._every_s = every_s
        self._retry_s = retry_s
        self._woken = asyncio.Event()
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with a first step now."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    def wake(self) -> None:
        """Run a step as soon as the current one is done."""
        self._woken.set()

    async def close(self, *, grace_s: float = 10.0) -> None:
        """Let the current step end, for ``grace_s`` seconds at most, and begin no other."""
        self._is_closing = True
        self._woken.set()
        if self._task is None:
            return
        done, _ = await asyncio.wait({self._task}, timeout=grace_s)
        if not done:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._task = None

    async def _run(self) -> None:
        while not self._is_closing:
            self._woken.clear()
            try:
                await self._step()
                pause_s = self._every_s
            except Exception as error:
                # The edge that must survive: a loop that ended here would stop every job of this
                # replica without anybody being told.
                is_expected = isinstance(error, ServiceError | BusError)
                _logger.log(
                    logging.WARNING if is_expected else logging.ERROR,
                    "%s failed, and is tried again in %.1f s: %s",
                    self._name,
                    self._retry_s,
                    error,
                    # A database or a bus that is away says enough in one line, every second of it.
                    exc_info=not is_expected,
                )
                pause_s = self._retry_s
            if not self._is_closing:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._woken.wait()
