"""The processes of a stack under test, each of which may be killed, frozen, drained and started again."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

from deploy.errors import CommandFailed
from deploy.local.child import Child
from deploy.local.keeper import Part

#: A killed PostgreSQL leaves children that hold its memory for a moment, as its supervisor knows too.
_TRIES = 20
_RETRY_S = 0.25
_STOP_S = 40.0


class Member:
    """One process, with the harness as its supervisor."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._child: Child | None = None
        #: Whether the harness has it down on purpose.
        self.is_down = True

    @property
    def name(self) -> str:
        """What it is called in results and logs."""
        return self._part.name

    @property
    def pid(self) -> int:
        """Its process id, of the newest start."""
        if self._child is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._child.pid

    @property
    def has_died(self) -> bool:
        """Whether it has ended although nobody here ended it."""
        return not self.is_down and self._child is not None and self._child.returncode is not None

    @property
    def returncode(self) -> int | None:
        """How it ended, if it did."""
        return None if self._child is None else self._child.returncode

    async def start(self) -> None:
        """Start it, and try again as its supervisor would.

        Raises:
            CommandFailed: it does not start.
        """
        for left in reversed(range(_TRIES)):
            try:
                self._child = await self._part.start()
            except CommandFailed:
                if not left:
                    raise
                await asyncio.sleep(_RETRY_S)
            else:
                self.is_down = False
                return

    async def kill(self) -> None:
        """SIGKILL: it has no chance to say anything."""
        self.is_down = True
        if self._child is not None:
            await self._child.stop(_STOP_S, stop_signal=signal.SIGKILL)

    async def drain(self) -> float:
        """Ask it to stop as an orchestrator would, and return how many seconds it took."""
        self.is_down = True
        began = time.monotonic()
        if self._child is not None:
            await self._child.stop(_STOP_S, stop_signal=self._part.stop_signal)
        return time.monotonic() - began

    def freeze(self) -> None:
        """SIGSTOP to it and to all it has started."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

    def _family(self) -> Iterator[psutil.Process]:
        if self._child is None or self._child.returncode is not None:
            return
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._child.pid)
            yield process
            yield from process.children(recursive=True)
