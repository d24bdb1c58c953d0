"""Keep one child process running, and stop it when asked."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from deploy.errors import CommandFailed, WrongUse
from deploy.local import logs
from deploy.local.child import Child

Say = Callable[[str], None]

#: What our own commands answer to wrong use: trying again would not help.
_EXIT_WRONG_USE = 2


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait before starting a child again. Durations in seconds."""

    first_s: float = 0.5
    factor: float = 2.0
    most_s: float = 30.0
    #: A child that has run for this long before it ended starts over at ``first_s``.
    healthy_s: float = 30.0

    def waits(self, failures: int) -> float:
        """Seconds to wait after this many failures in a row (at least 1)."""
        return min(self.most_s, self.first_s * self.factor ** min(failures - 1, 32))


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the stack: how it starts and how it is asked to stop."""

    name: str
    #: Start it and return when it can be used by the parts that need it.
    start: Callable[[], Awaitable[Child]]
    #: Where it writes; its last line is repeated when it ends by itself.
    log: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    #: For somebody who does not want to wait for the work in hand.
    hurry_signal: signal.Signals = signal.SIGKILL
    grace_s: float = 30.0
    #: Failures in a row before the first success that end the whole stack.
    patience: int = 5


class Keeper:
    """Starts a part, starts it again whenever it ends, until `stop`."""

    def __init__(self, part: Part, say: Say, backoff: Backoff | None = None) -> None:
        self._part = part
        self._say = say
        self._backoff = backoff or Backoff()
        self._child: Child | None = None
        self._is_hurried = False
        #: Set while the part can be used by others.
        self.is_up = asyncio.Event()
        #: Set by the owner once all is well: from then on it is started again for ever.
        self.has_been_up = False

    @property
    def name(self) -> str:
        """The part's name."""
        return self._part.name

    async def keep(self) -> None:
        """Keep the part running until cancelled.

        Raises:
            WrongUse: it says that it was started wrongly, and has never come up.
            CommandFailed: it has never come up, however often it was started.
        """
        failures = 0
        while True:
            began = time.monotonic()
            how, code = await self._run_once()
            self.is_up.clear()
            if code == _EXIT_WRONG_USE and not self.has_been_up:
                raise WrongUse(f"{self.name} refuses its settings: {how}")
            failures = 1 if time.monotonic() - began > self._backoff.healthy_s else failures + 1
            if failures >= self._part.patience and not self.has_been_up:
                raise CommandFailed(f"{self.name} does not start: {how}")
            wait_s = self._backoff.waits(failures)
            self._say(f"{self.name} {how}; starting it again in {wait_s:g} s")
            await asyncio.sleep(wait_s)

    async def _run_once(self) -> tuple[str, int | None]:
        """Return how it ended, and its exit code if it had started."""
        try:
            self._child = await self._part.start()
        except WrongUse:
            raise
        except CommandFailed as error:
            return str(error), None
        self.is_up.set()
        code = await self._child.wait()
        return self._describe(code), code

    def _describe(self, code: int) -> str:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        if self._part.log is None:
            return how
        return f"{how}, last words in {self._part.log}: {logs.read_last_line(self._part.log) or 'none'}"

    async def stop(self) -> None:
        """Ask the child to end and wait for it; past its grace it is killed. `keep` must have ended."""
        if self._child is None:
            return
        stop_signal = self._part.hurry_signal if self._is_hurried else self._part.stop_signal
        code = await self._child.stop(self._part.grace_s, stop_signal=stop_signal)
        if code == -signal.SIGKILL and not self._is_hurried:
            self._say(f"{self.name} had to be killed: it was not done after {self._part.grace_s:g} s")

    def hurry(self) -> None:
        """End the child now, the work in hand with it."""
        self._is_hurried = True
        if self._child is not None and self._child.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._child.pid, self._part.hurry_signal)
