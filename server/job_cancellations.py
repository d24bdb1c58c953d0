"""Stopping jobs: at once while they wait, and as soon as the worker has let go while they run.

One transaction under the lock of the job's row decides, as everywhere: whichever of a cancellation and the
last report comes first there wins, and the other one finds a final state.
"""

import logging
from collections.abc import Sequence
from typing import Any, overload
from uuid import UUID

from opentelemetry.metrics import Meter

from bus import subjects
from bus.errors import BusError
from bus.messages import CancelJob
from bus.port import Bus
from server.auth.principal import Principal, Scope
from server.database import Database
from server.dataset_facts import LOOK_CANCELLED
from server.dataset_release import Released, give_up_dataset
from server.errors import JobFinished, NotFound
from server.job_rows import (
    EMBEDDING,
    EMBEDDING_JOBS,
    HEARTBEAT_WRITTEN_EVERY_S,
    embedding_job_record,
    enter_state,
)
from server.nudges import nudge
from server.records import EmbeddingJobRecord, JobState
from server.repeating import Repeating

_logger = logging.getLogger(__name__)

#: Heartbeats come every second. Who was not heard of for this long has stopped, one way or the other.
_SILENCE_S = HEARTBEAT_WRITTEN_EVERY_S + 3.0
_LOOK_EVERY_S = 2.0
_BATCH = 32

_REASON = "Cancelled by its owner."
_SILENT = "Nobody was heard to work on it any more."


class JobCancellations:
    """Cancels jobs, and ends the cancellation of those whose worker does not say a last word."""

    def __init__(self, db: Database, bus: Bus, *, meter: Meter, silence_s: float = _SILENCE_S) -> None:
        self._db = db
        self._bus = bus
        self._silence_s = silence_s
        self._loop = Repeating(self.end_silent, name="job cancellations", every_s=_LOOK_EVERY_S)
        self._cancelled = meter.create_counter(
            "towhee.job.cancellations", description="Jobs cancelled, by the state they were in."
        )

    async def start(self) -> None:
        """Look for cancelled jobs that nobody works on from now on."""
        self._loop.start()

    async def close(self) -> None:
        """Finish the look in hand."""
        await self._loop.close()

    @overload
    async def cancel(self, principal: Principal, job_id: UUID) -> EmbeddingJobRecord: ...

    @overload
    async def cancel(self, principal: Principal, job_id: UUID, kind: str) -> JobState: ...

    async def cancel(
        self, principal: Principal, job_id: UUID, kind: str | None = None
    ) -> EmbeddingJobRecord | JobState:
        """Stop a job; one that is being stopped already stays as it is.

        Args:
            principal: whose job it is.
            job_id: which.
            kind: ``jobs.kind``, an embedding job where none is named.

        Returns:
            The record of an embedding job where no kind was named, else the job's new state.

        Raises:
            Forbidden: the credential lacks the scope: EMBED for an embedding job, TRAIN for all others.
            NotFound: no such job of this kind, or somebody else's (path ``job_id``).
            JobFinished: it has ended.
        """
        principal.require(Scope.EMBED if kind in (None, EMBEDDING) else Scope.TRAIN)
        released = Released()
        async with self._db.transaction():
            row = await self._lock(principal.user_id, job_id, kind or EMBEDDING)
            before = JobState(row["state"])
            if before.is_final:
                raise JobFinished(f"The job has ended: it is {before}.", path=("job_id",))
            is_waiting = before is JobState.QUEUED
            after = JobState.CANCELLED if is_waiting else JobState.CANCELLING
            if before is not JobState.CANCELLING:
                row["last_seq"] = await enter_state(self._db, row, after, _REASON)
            if is_waiting:
                released = await give_up_dataset(self._db, row, LOOK_CANCELLED)
            record = await self._record(job_id) if kind is None else after
        if before is not JobState.CANCELLING:
            self._cancelled.add(1, {"state": before.value})
            await self._nudge([row], released)
        if not is_waiting:
            # Also when it was told before: that one may be lost, and who asks again wants it to stop.
            await self._tell(job_id)
        return record

    async def end_silent(self) -> None:
        """End the jobs that are being cancelled and that no worker was heard to work on for some seconds."""
        released = Released()
        async with self._db.transaction():
            rows = await self._db.fetch(
                "SELECT id, kind, attempt, last_seq FROM jobs WHERE state = 'CANCELLING'"
                " AND coalesce(heartbeat_at, started_at, created_at)"
                " < now() - make_interval(secs => {}::float8)"
                " ORDER BY id LIMIT {} FOR UPDATE SKIP LOCKED",
                self._silence_s,
                _BATCH,
            )
            for row in rows:
                row["last_seq"] = await enter_state(self._db, row, JobState.CANCELLED, _SILENT)
                released.add(await give_up_dataset(self._db, row, LOOK_CANCELLED))
        await self._nudge(rows, released)

    async def _nudge(self, rows: Sequence[dict[str, Any]], released: Released) -> None:
        for row in rows:
            await nudge(self._bus, row["id"], row["last_seq"])
        for job_id, seq in released.failed.items():
            await nudge(self._bus, job_id, seq)

    async def _lock(self, user_id: UUID, job_id: UUID, kind: str) -> dict[str, Any]:
        row = await self._db.fetch_one(
            "SELECT id, kind, attempt, state, last_seq FROM jobs"
            " WHERE id = {} AND user_id = {} AND kind = {} FOR UPDATE",
            job_id,
            user_id,
            kind,
        )
        if row is None:
            raise NotFound("There is no such job.", path=("job_id",))
        return row

    async def _record(self, job_id: UUID) -> EmbeddingJobRecord:
        [row] = await self._db.fetch(
            f"SELECT * FROM {EMBEDDING_JOBS} WHERE id = {{}}",  # noqa: S608 - SQL of ours
            job_id,
        )
        return embedding_job_record(row)

    async def _tell(self, job_id: UUID) -> None:
        try:
            await self._bus.tell(subjects.job_cancel(str(job_id)), CancelJob(job_id=str(job_id)))
        except BusError as error:
            # The worker's next heartbeat is told, within a second.
            _logger.warning("nobody was told to stop job %s: %s", job_id, error)
