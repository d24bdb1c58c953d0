"""Reports of one attempt: numbered without a gap, stored one after the other, whatever the bus does.

Training never waits for a report. While the bus or the object store is away progress shrinks to the newest;
everything else waits for its turn.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from bus import subjects
from bus.codec import encode
from bus.errors import BusError, MessageTooLarge, ObjectStoreError
from bus.messages import DatasetValidated, TrainingProgressed
from bus.messages.work import WorkReport
from bus.objects import ObjectStore
from bus.port import Bus
from workers.retries import backoff_s

logger = logging.getLogger(__name__)

#: Makes a report of what all reports have: job, attempt and number.
Draft = Callable[..., WorkReport]

_PROGRESS_EVERY_S = 0.5
_PUBLISH_S = 5.0
_LONGEST_PAUSE_S = 5.0


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a report tells of; its key holds the report's number. It is removed when it is stored."""

    path: Path
    suffix: str


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    draft: Draft
    attached: Attached | None = None
    stored: Callable[[], None] | None = None


class Reporter:
    """Reports of an attempt at a job, from `start` to `close`."""

    def __init__(
        self,
        bus: Bus,
        objects: ObjectStore,
        job_id: str,
        attempt: int,
        *,
        spent_s: Callable[[], float] = float,
        progress_every_s: float = _PROGRESS_EVERY_S,
    ) -> None:
        """``spent_s`` tells how many seconds the attempt has computed so far: each report has its share."""
        self._bus = bus
        self._objects = objects
        self._job_id = job_id
        self._attempt = attempt
        self._spent_s = spent_s
        self._reported_s = 0.0
        self._progress_every_s = progress_every_s
        self._loop = asyncio.get_running_loop()
        self._entries: deque[_Entry] = deque()
        self._progress: TrainingProgressed | None = None
        self._progress_at = 0.0
        self._retry_at = 0.0
        self._tries = 0
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._publishing: asyncio.Task[None] | None = None
        #: Reports that are stored.
        self.num_stored = 0
        #: Whether the last report of the job is on its way; there is no way back.
        self.is_last_told = False

    def start(self) -> None:
        """Publish from now on."""
        self._publishing = asyncio.create_task(self._run(), name=f"reports of {self._job_id}")

    async def close(self) -> None:
        """Publish no more."""
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.gather(self._publishing, return_exceptions=True)

    def progress(self, progress: TrainingProgressed) -> None:
        """Report progress, at most two a second; its number is not yet known. What was evaluated stays."""
        before = self._progress
        if before is not None:
            kept = {name: value for name, value in before.metrics.items() if name.startswith("eval_")}
            progress = msgspec.structs.replace(progress, metrics=kept | progress.metrics)
        self._progress = progress
        self._wake()

    def add(
        self, draft: Draft, *, attached: Attached | None = None, stored: Callable[[], None] | None = None
    ) -> None:
        """Report something else, after what was reported before; ``stored`` is called when it is."""
        self._entries.append(_Entry(draft=draft, attached=attached, stored=stored))
        self._wake()

    async def finish(self, draft: Draft) -> None:
        """Make the last report of the job and wait until it is stored."""
        if not self.is_last_told:
            self.is_last_told = True
            self._settle_progress()
            self.add(draft)
        await self._idle.wait()

    async def flush(self) -> None:
        """Wait until everything is stored."""
        self._settle_progress()
        await self._idle.wait()

    def _settle_progress(self) -> None:
        """The last progress goes before what follows, however soon after the one before."""
        if self._progress is not None:
            progress, self._progress = self._progress, None
            self._entries.append(_Entry(draft=_numbered(progress)))
            self._wake()

    def _wake(self) -> None:
        self._idle.clear()
        self._changed.set()

    async def _run(self) -> None:
        while True:
            entry = await self._next()
            try:
                report = await self._make(entry)
            except ObjectStoreError as error:
                self._entries.appendleft(entry)
                self._tries += 1
                self._retry_at = self._loop.time() + self._pause_s()
                logger.warning("something of job %s could not be stored: %s", self._job_id, error)
                continue
            self._tries = 0
            await self._publish(report)
            if entry.stored is not None:
                entry.stored()

    async def _next(self) -> _Entry:
        while True:
            now = self._loop.time()
            if self._entries and now >= self._retry_at:
                return self._entries.popleft()
            if self._progress is not None and now >= self._progress_at:
                progress, self._progress = self._progress, None
                self._progress_at = now + self._progress_every_s
                return _Entry(draft=_numbered(progress))
            due = [self._retry_at] if self._entries else []
            due += [self._progress_at] if self._progress is not None else []
            self._changed.clear()
            if not due:
                self._idle.set()
            try:
                async with asyncio.timeout(max(0.0, min(due) - now) if due else None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _make(self, entry: _Entry) -> WorkReport:
        number = self.num_stored + 1
        common = {"job_id": self._job_id, "attempt": self._attempt, "number": number}
        attached = entry.attached
        if attached is not None:
            key = f"jobs/{self._job_id}/samples/{self._attempt}-{number}{attached.suffix}"
            stored = await self._objects.put_file(key, attached.path)
            attached.path.unlink(missing_ok=True)
            common |= {"object_key": key, "byte_size": stored.byte_size}
        # From here on it is published, however often that takes.
        spent_s = self._spent_s()
        compute_s, self._reported_s = spent_s - self._reported_s, spent_s
        return entry.draft(**common, compute_s=compute_s)

    async def _publish(self, report: WorkReport) -> None:
        """Publish a report until it is stored: under the same message id it is stored once."""
        report = fitting(report)
        subject = subjects.job_event(self._job_id)
        message_id = f"{self._job_id}:{self._attempt}:{report.number}"
        while True:
            try:
                await self._bus.publish(subject, report, message_id=message_id, deadline_s=_PUBLISH_S)
            except BusError as error:
                self._tries += 1
                logger.warning("report %s waits: %s", message_id, error)
                await asyncio.sleep(self._pause_s())
            else:
                self._tries = 0
                self.num_stored = report.number
                return

    def _pause_s(self) -> float:
        return min(backoff_s(self._tries), _LONGEST_PAUSE_S)


def _numbered(progress: TrainingProgressed) -> Draft:
    def draft(**common: object) -> WorkReport:
        return msgspec.structs.replace(progress, **common)

    return draft


def fitting(report: WorkReport) -> WorkReport:
    """Return the report, with as many of a data set's issues as a message has room for."""
    while isinstance(report, DatasetValidated) and report.issues:
        try:
            encode(report)
        except MessageTooLarge:
            report = msgspec.structs.replace(report, issues=report.issues[: len(report.issues) // 2])
        else:
            break
    return report
