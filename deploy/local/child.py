"""Processes that end when we do, whatever ends us.

A child is tied to its parent by the kernel's parent-death signal (``PR_SET_PDEATHSIG``), which arrives
even when the parent was killed with SIGKILL. It belongs to the *thread* that forked, so children are
started from the main thread only. Grandchildren are not covered by it: they share the child's process
group, which `Child.stop` kills, and otherwise depend on what the child does when it dies.
"""

import asyncio
import os
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from deploy.local import launch


class ChildOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a child speaks and how it dies."""

    #: What the child gets when the parent dies without stopping it. SIGKILL cannot be ignored.
    death_signal: signal.Signals = signal.SIGKILL
    #: Where stdout and stderr go: a file descriptor, PIPE or DEVNULL; None shares ours.
    output: int | None = None


async def _open_pipe() -> tuple[asyncio.StreamReader, int]:
    """Return the reading end as a stream and the writing end as a descriptor.

    With asyncio's own pipes the wait for a child lasts until everything it started has closed them too.
    """
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0))
    return reader, writing


class Child:
    """One running child and its process group."""

    def __init__(self, process: asyncio.subprocess.Process, output: asyncio.StreamReader | None) -> None:
        self._process = process
        self._output = output

    @property
    def pid(self) -> int:
        """Its process id, which is its process group too."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    @property
    def output(self) -> asyncio.StreamReader | None:
        """What it prints, if it was started with a pipe."""
        return self._output

    async def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return await self._process.wait()

    async def stop(self, grace_s: float, *, stop_signal: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, kill its whole group after ``grace_s``, and return the exit code."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(stop_signal)
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._process.wait()
        # Also after a clean end: what the child itself started may still be there.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return await self._process.wait()


async def start_child(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    user: str | None = None,
    options: ChildOptions | None = None,
) -> Child:
    """Start ``argv`` as a direct child in its own session, as ``user`` if we are root.

    Its command line is ``argv``. A command that cannot be executed ends with code 126 and says why on stderr.

    Raises:
        RuntimeError: not called from the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        # The child would die with this thread.
        raise RuntimeError("start children from the main thread")
    options = options or ChildOptions()
    reader, writing = await _open_pipe() if options.output == PIPE else (None, None)
    output = options.output if writing is None else writing
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", launch.__file__),
            *(str(os.getpid()), str(int(options.death_signal)), user or "", *argv),
            env=dict(env),
            cwd=cwd,
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C in the terminal reaches the supervisor only, which stops its children in order.
            start_new_session=True,
        )
    finally:
        if writing is not None:
            os.close(writing)
    return Child(process, reader)
