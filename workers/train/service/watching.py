"""Looking after a child from outside: how much memory it has, and whether it still does anything."""

import asyncio
import logging
from typing import Self

import msgspec

from workers.train.service.children import Child
from workers.train.service.ends import Hopeless, Lost
from workers.train.service.proc import family, memory_bytes

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_MIB = 1024 * 1024
#: Computing time, in seconds, that says in a phase without steps that something is being done.
_SIGN_OF_LIFE_S = 0.1


class WatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a child is ended from outside."""

    silent_s: float
    max_memory_bytes: int | None = None
    look_every_s: float = _LOOK_EVERY_S


class Watch:
    """Ends a child that takes too much memory, or of which nothing is seen for too long."""

    def __init__(self, child: Child, settings: WatchSettings) -> None:
        self._child = child
        self._meter = child.start_meter()
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._seen_at = self._loop.time()
        self._cpu_s = 0.0
        #: Whether only steps count as signs of life.
        self.is_strict = False
        #: Why the child was ended.
        self.verdict: Hopeless | Lost | None = None

        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run(), name="watching a child")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def saw(self) -> None:
        """The child has told something."""
        self._seen_at = self._loop.time()
        # It may be the last thing that it does.
        self._meter.look()

    async def _run(self) -> None:
        while not self._child.has_ended:
            self.verdict = self._judge()
            if self.verdict is not None:
                logger.warning("the process %d is ended: %s", self._child.pid, self.verdict)
                self._child.kill()
                return
            await asyncio.sleep(self._settings.look_every_s)

    def _judge(self) -> Hopeless | Lost | None:
        settings = self._settings
        used = sum(map(memory_bytes, family(self._child.pid)))
        if settings.max_memory_bytes is not None and used > settings.max_memory_bytes:
            limit_mib, used_mib = settings.max_memory_bytes // _MIB, used // _MIB
            return Hopeless(
                "QUOTA_EXCEEDED",
                f"The job took {used_mib} MiB of memory; it may take {limit_mib} MiB.",
                advice="Use a smaller batch_size, a smaller network, or fewer data.",
            )
        self._meter.look()
        if not self.is_strict and self._meter.cpu_s - self._cpu_s >= _SIGN_OF_LIFE_S:
            self.saw()
            self._cpu_s = self._meter.cpu_s
        if self._loop.time() - self._seen_at > settings.silent_s:
            return Lost(f"was silent for {settings.silent_s:g} s")
        return None
