"""Child processes of the train worker: one is kept ready, each does one task."""

import asyncio
import logging
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec

from workers import framing
from workers.surroundings import surroundings
from workers.train.service.ends import NotStarted
from workers.train.service.folders import Folders
from workers.train.service.frames import Order, Plan, Ready, Told, pack, unpack_told
from workers.train.service.metering import Meter

logger = logging.getLogger(__name__)

#: Loading torch takes seconds, more on a busy machine.
_START_S = 120.0
_READ_BYTES = 1 << 16
#: Processes that have been killed are gone by then.
_GONE_S = 5.0
#: What is set for a child beside what is left of the worker's environment.
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOWHEE_OFFLINE": "1",
    "PIP_NO_INDEX": "1",
    # Its progress is told, not painted.
    "TQDM_DISABLE": "1",
}
#: Where installed data sets are; no secret.
_DATA = "TOWHEE_API_TRAINING_DATA"


class Child:
    """One process with its folder."""

    def __init__(self, process: Process, folder: Path, *, processes: int = 1) -> None:
        if process.stdin is None or process.stdout is None:
            raise TypeError("a child without pipes")
        self._process = process
        self._input = process.stdin
        self._output = process.stdout
        self._processes = processes
        self.folder = folder
        self.ready = Ready(device="cpu", samples=[])
        self._meter: Meter | None = None

    @classmethod
    async def start(cls, plan: Plan, folder: Path) -> "Child":
        """Start one and wait until it is ready.

        Raises:
            NotStarted: it has ended, or was not ready in time.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            # The folder of the task is no place to import from.
            "-P",
            "-m",
            "workers.train.service.child" if plan.processes == 1 else "workers.train.service.child.crew",
            msgspec.json.encode(plan).decode(),
            stdin=PIPE,
            stdout=PIPE,
            cwd=folder,
            env=_environment(os.environ),
            # Ctrl-C is for the worker, which lets its children write checkpoints.
            start_new_session=True,
        )
        child = cls(process, folder, processes=plan.processes)
        try:
            async with asyncio.timeout(_START_S):
                ready = await child.receive()
        except BaseException:
            child.kill()
            await child.clear()
            raise
        if not isinstance(ready, Ready):
            how = await child.bury()
            await child.clear()
            raise NotStarted(f"a process for the next job {how}")
        child.ready = ready
        return child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def start_meter(self) -> Meter:
        """Begin to count what it computes, since from now on it is for somebody."""
        self._meter = Meter(self.pid, min(self._processes, self.ready.num_gpus))
        return self._meter

    @property
    def spent_s(self) -> float:
        """Seconds that it has computed for its task, of processors or of GPUs."""
        return 0.0 if self._meter is None else self._meter.spent_s

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.returncode is not None

    async def send(self, order: Order) -> None:
        """Tell it something; one that has died is noticed where its answer is waited for."""
        try:
            self._input.write(pack(order))
            await self._input.drain()
        except OSError:
            return

    async def receive(self) -> Told | None:
        """Return the next thing it tells; None when its pipe is at its end or brings nonsense."""
        try:
            header = await self._output.readexactly(framing.HEADER_BYTES)
            raw = await self._output.readexactly(framing.length_of(header))
            return unpack_told(raw)
        except (asyncio.IncompleteReadError, OSError, msgspec.DecodeError):
            return None

    async def told(self) -> AsyncIterator[Told]:
        """Give all that it tells."""
        while (frame := await self.receive()) is not None:
            yield frame

    def kill(self) -> None:
        """End it now, and what it has started."""
        if self._process.returncode is None:
            try:
                # It leads a session, and so a process group, of its own.
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    async def bury(self) -> str:
        """Make sure that it has ended and say how."""
        if self._process.returncode is None:
            # One whose pipe has ended is ending; let it say how.
            try:
                async with asyncio.timeout(0.5):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
        code = await self._end()
        return f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"

    @property
    def is_out_of_time(self) -> bool:
        """Whether it was ended for what it has computed."""
        return self._process.returncode == -signal.SIGXCPU

    async def clear(self) -> None:
        """Make sure that it has ended, with all its processes, and remove its folder."""
        self.kill()
        await self._end()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _end(self) -> int:
        """Wait for the end of one that is ending, and of all that it has started; give its code."""
        try:
            # The pipe is at its end when nobody is left that could write to it, and has to be read to that:
            # asyncio waits for it as well, and for ever while it is full.
            async with asyncio.timeout(_GONE_S):
                while await self._output.read(_READ_BYTES):
                    continue
        except TimeoutError:
            logger.warning("something that the process %d has started is still there", self.pid)
        return await self._process.wait()


class Nursery:
    """Gives out children that are ready, and has the next one ready when told to."""

    def __init__(self, folders: Folders, plan: Plan) -> None:
        self._folders = folders
        self._plan = plan
        self._spare: asyncio.Task[Child] | None = None

    def warm(self) -> None:
        """Start a child for the next task, unless there is one."""
        if self._spare is None:
            self._spare = asyncio.create_task(self._start(), name="warming a child")

    async def facts(self) -> Ready:
        """Say what the children of this worker have; the child that was asked stays for a task.

        Raises:
            NotStarted: none could be started.
        """
        self.warm()
        if self._spare is None:
            raise NotStarted("there is no child")
        return (await asyncio.shield(self._spare)).ready

    async def take(self) -> Child:
        """Give out a child.

        Raises:
            NotStarted: none could be started.
        """
        if self._spare is not None:
            spare, self._spare = self._spare, None
            try:
                child = await asyncio.shield(spare)
            except asyncio.CancelledError:
                spare.add_done_callback(_discard)
                raise
            if not child.has_ended:
                return child
            # It died of nothing that we know of, such as a machine that had no memory left.
            await child.clear()
        return await self._start()

    async def let_go(self) -> None:
        """End the child that is kept ready."""
        if self._spare is not None:
            spare, self._spare = self._spare, None
            spare.cancel()
            (child,) = await asyncio.gather(spare, return_exceptions=True)
            if isinstance(child, Child):
                await child.clear()

    async def _start(self) -> Child:
        try:
            return await Child.start(self._plan, self._folders.make())
        except (OSError, TimeoutError) as error:
            raise NotStarted(f"no process for the next job could be started: {error}") from error


def _discard(spare: "asyncio.Task[Child]") -> None:
    if not spare.cancelled() and spare.exception() is None:
        spare.result().kill()


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    given = {name: environ[name] for name in (_DATA,) if name in environ}
    return surroundings(environ) | given | _OFFLINE | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
