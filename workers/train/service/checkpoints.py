"""Checkpoints on their way from a child's folder to the object store."""

import asyncio
import logging
import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bus.errors import ObjectStoreError
from bus.messages import Checkpoint, CheckpointSaved, StoredFiles
from bus.objects import ObjectStore
from workers.retries import backoff_s
from workers.train.service.reporting import Reporter
from workers.train.service.storing import store_files

logger = logging.getLogger(__name__)

#: Stored checkpoints of a job that are kept: the newest, and the one that a server may still name.
_KEEP = 2
_LONGEST_PAUSE_S = 5.0


class _Waiting(NamedTuple):
    step: int
    folder: Path


class CheckpointUploads:
    """Stores one checkpoint after the other; of those that wait only the newest is worth the way."""

    def __init__(
        self, objects: ObjectStore, reporter: Reporter, *, job_id: str, attempt: int, before: str | None
    ) -> None:
        self._objects = objects
        self._reporter = reporter
        self._prefix = f"jobs/{job_id}/checkpoints/{attempt}"
        #: Prefixes of stored and reported checkpoints, the newest last.
        self._reported: list[str] = [] if before is None else [before]
        self._waiting: _Waiting | None = None
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._newest = -1
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Store from now on."""
        self._running = asyncio.create_task(self._run(), name=f"checkpoints below {self._prefix}")

    async def close(self) -> None:
        """Store no more."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def offer(self, step: int, folder: Path) -> None:
        """Take over a checkpoint's folder.

        A second one of the same step is no further on, and one that is stored must not change any more.
        """
        if step <= self._newest:
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._newest = step
        if self._waiting is not None:
            shutil.rmtree(self._waiting.folder, ignore_errors=True)
        self._waiting = _Waiting(step, folder)
        self._idle.clear()
        self._changed.set()

    async def drain(self, *, within_s: float) -> bool:
        """Wait until what was offered is stored, and say whether it is."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        tries = 0
        while True:
            while self._waiting is None:
                self._idle.set()
                self._changed.clear()
                await self._changed.wait()
            taken, self._waiting = self._waiting, None
            prefix = f"{self._prefix}-{taken.step}"
            try:
                stored = await store_files(self._objects, taken.folder, prefix)
            except ObjectStoreError as error:
                tries += 1
                logger.warning("a checkpoint could not be stored: %s", error)
                if self._waiting is None:
                    self._waiting = taken
                await asyncio.sleep(min(backoff_s(tries), _LONGEST_PAUSE_S))
                continue
            tries = 0
            await asyncio.to_thread(shutil.rmtree, taken.folder, ignore_errors=True)
            await self._report(taken.step, stored)

    async def _report(self, step: int, stored: StoredFiles) -> None:
        draft = partial(CheckpointSaved, checkpoint=Checkpoint(step=step, stored=stored))
        self._reporter.add(draft, stored=partial(self._reported.append, stored.prefix))
        # What is not reported yet is not old: those that were are, once there are enough of them.
        while len(self._reported) > _KEEP:
            old = self._reported.pop(0)
            try:
                await self._objects.delete_below(old)
            except ObjectStoreError as error:
                # They go with their job.
                logger.warning("an old checkpoint stays for now: %s", error)
