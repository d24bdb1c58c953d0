"""Looking after a child from outside: how much memory it has, and whether it still does anything."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Self

import msgspec

from workers.train.service.children import Child
from workers.train.service.ends import Hopeless, Lost

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_KIB = 1024
_MIB = 1024 * _KIB
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
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
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._seen_at = self._loop.time()
        self._computed_s = 0.0
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
        pids = family(self._child.pid)
        used = sum(map(memory_bytes, pids))
        if settings.max_memory_bytes is not None and used > settings.max_memory_bytes:
            limit_mib, used_mib = settings.max_memory_bytes // _MIB, used // _MIB
            return Hopeless(
                "QUOTA_EXCEEDED",
                f"The job took {used_mib} MiB of memory; it may take {limit_mib} MiB.",
                advice="Use a smaller batch_size, a smaller network, or fewer data.",
            )
        computed_s = sum(map(computed, pids))
        if not self.is_strict and computed_s - self._computed_s >= _SIGN_OF_LIFE_S:
            self.saw()
            self._computed_s = computed_s
        if self._loop.time() - self._seen_at > settings.silent_s:
            return Lost(f"was silent for {settings.silent_s:g} s")
        return None


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        started = [child for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        # It has ended meanwhile.
        started = []
    return [pid, *(each for child in started for each in family(int(child)))]


def memory_bytes(pid: int) -> int:
    """Memory that is a process's own; files that it has mapped can be given up, and count for nobody."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    lines = (line.split() for line in status.splitlines())
    own = {"RssAnon:", "RssShmem:", "VmSwap:"}
    return sum(int(words[1]) * _KIB for words in lines if words and words[0] in own)


def computed(pid: int) -> float:
    """Seconds that a process has computed."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    # The name of the command, in parentheses, may hold anything; utime and stime are the 12th and 13th after.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS
