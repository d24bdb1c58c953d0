"""What workers report becomes history: the only writer of ``job_events`` once a job exists and is claimed.

Exactly once, whatever the bus does: under the lock of the job's row the attempt is compared, what is already
there is left alone, and the rest gets the next sequence numbers. The report is acknowledged after the commit;
a process that dies between the two gets it again and finds nothing new in it.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Iterable
from typing import NamedTuple
from uuid import UUID

from opentelemetry.metrics import Meter

from bus.consumer import processing_batch
from bus.dead_letters import Death
from bus.errors import BusError
from bus.messages import ItemsEmbedded, JobAttemptFailed, JobAttemptLetGo
from bus.port import Bus, Delivery
from bus.topology import PROJECTION
from server.database import Database
from server.errors import ServiceError
from server.job_payloads import chunk_key
from server.job_rows import append_events, parse_job_id
from server.job_tally import JobTally, Report
from server.nudges import nudge
from server.records import JobState, UsageRecord
from server.repeating import Repeating
from server.usage import UsageMeter

_logger = logging.getLogger(__name__)

#: How many reports are taken from the bus at once.
_WINDOW = 256
#: How many jobs are written at the same time; each holds one connection of the pool.
_CONCURRENT_JOBS = 4
_FETCH_WAIT_S = 5.0
_RETRY_DELAY_S = 1.0


class _Report(NamedTuple):
    delivery: Delivery
    message: Report


class Projection:
    """Pulls reports in windows and writes each job's share of a window in one transaction."""

    def __init__(self, db: Database, bus: Bus, usage: UsageMeter, *, meter: Meter) -> None:
        self._db = db
        self._bus = bus
        self._usage = usage
        self._puller = bus.puller(PROJECTION)
        self._loop = Repeating(self.step, name="projection", every_s=0.0)
        self._room = asyncio.Semaphore(_CONCURRENT_JOBS)
        self._reports = meter.create_counter(
            "towhee.job.reports", description="Reports of workers: counted, duplicate, stale, late, unknown."
        )
        self._ended = meter.create_counter("towhee.job.ended", description="Jobs that ended, by their state.")

    async def start(self) -> None:
        """Take reports from now on."""
        self._loop.start()

    async def close(self) -> None:
        """Write what is in hand and hand back the rest."""
        # Together: a fetch that waits returns when its puller is closed.
        await asyncio.gather(self._loop.close(), self._puller.close())

    async def step(self) -> None:
        """Take one window of reports, waiting a moment for the first, and settle it."""
        by_job: defaultdict[str, list[_Report]] = defaultdict(list)
        for delivery in await self._puller.fetch(limit=_WINDOW, wait_s=_FETCH_WAIT_S):
            message = delivery.message
            if isinstance(message, ItemsEmbedded | JobAttemptFailed | JobAttemptLetGo):
                by_job[message.job_id].append(_Report(delivery, message))
            else:
                reason = f"{type(message).__name__} is no report about a job."
                await delivery.dead_letter(Death(code="INVALID_INPUT", reason=reason))
        await asyncio.gather(*(self._settle_in_trace(job_id, reports) for job_id, reports in by_job.items()))

    async def _settle_in_trace(self, job_id: str, reports: list[_Report]) -> None:
        with processing_batch([report.delivery for report in reports]):
            await self._settle(job_id, reports)

    async def _settle(self, job_id: str, reports: list[_Report]) -> None:
        async with self._room:
            try:
                job = await self._project(job_id, [report.message for report in reports])
            except Exception as error:
                # Whatever it is, one job's reports must not keep those of the others from being
                # written; they come again. A database that is away says enough in one line.
                _logger.error(  # noqa: TRY400 - the traceback of a bug is added below
                    "%d reports about job %s are given back: %s",
                    len(reports),
                    job_id,
                    error,
                    exc_info=not isinstance(error, ServiceError),
                )
                await _each(report.delivery.nak(delay_s=_RETRY_DELAY_S) for report in reports)
                return
        await _each(report.delivery.ack() for report in reports)
        if job is None:
            self._reports.add(len(reports), {"outcome": "unknown"})
            return
        for outcome, count in job.outcomes.items():
            self._reports.add(count, {"outcome": outcome})
        if job.events:
            await self._tell(job)

    async def _tell(self, job: JobTally) -> None:
        if job.num_counted:
            cost = UsageRecord(items=job.num_counted, tokens=job.tokens, compute_s=job.compute_s)
            self._usage.record(job.user_id, cost)
        if job.state.is_final:
            self._ended.add(1, {"state": job.state.value})
        await nudge(self._bus, job.id, job.last_seq)

    async def _project(self, job_id: str, reports: list[Report]) -> JobTally | None:
        async with self._db.transaction():
            job = await self._lock(job_id)
            if job is not None:
                done = await self._done_among(job.id, reports)
                for report in reports:
                    job.apply(report, done)
                if job.events:
                    await self._write(job)
                if job.let_go:
                    await self._write_let_go(job)
        return job

    async def _lock(self, job_id: str) -> JobTally | None:
        row = await self._db.fetch_one(
            "SELECT id, user_id, attempt, state, last_seq FROM jobs WHERE id = {} FOR UPDATE",
            parse_job_id(job_id),
        )
        if row is None:
            return None
        # A statement of its own: one that waits for a lock reads the tables it does not lock as they
        # were before it waited.
        [counts] = await self._db.fetch(
            "SELECT item_count, chunk_size, dimension, completed_count, failed_count"
            " FROM embedding_jobs WHERE job_id = {}",
            row["id"],
        )
        return JobTally(**{**row, **counts, "state": JobState(row["state"])})

    async def _done_among(self, job_id: UUID, reports: list[Report]) -> set[str]:
        keys = [chunk_key(report.chunk) for report in reports if isinstance(report, ItemsEmbedded)]
        rows = await self._db.fetch(
            "SELECT item_key FROM job_events WHERE job_id = {} AND item_key = ANY({}::text[])", job_id, keys
        )
        return {row["item_key"] for row in rows}

    async def _write(self, job: JobTally) -> None:
        job.last_seq = await append_events(
            self._db, job.id, attempt=job.attempt, after_seq=job.last_seq, events=job.events
        )
        await self._db.execute(
            "UPDATE jobs SET state = {}, last_seq = {}, error_code = {}, error_message = {},"
            " heartbeat_at = now(), finished_at = CASE WHEN {}::boolean THEN now() END WHERE id = {}",
            job.state.value,
            job.last_seq,
            job.error_code,
            job.error_message,
            job.state.is_final,
            job.id,
        )
        await self._db.execute(
            "UPDATE embedding_jobs SET completed_count = {}, failed_count = {} WHERE job_id = {}",
            job.completed_count,
            job.failed_count,
            job.id,
        )

    async def _write_let_go(self, job: JobTally) -> None:
        # Each attempt once, however often it is told.
        await self._db.execute(
            "UPDATE jobs SET let_go = ARRAY(SELECT unnest(let_go) UNION SELECT unnest({}::integer[]))"
            " WHERE id = {}",
            sorted(job.let_go),
            job.id,
        )


async def _each(settlements: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*map(_settled, settlements))


async def _settled(settlement: Awaitable[None]) -> None:
    """Settle a delivery; one that can't be is delivered again, which does no harm."""
    try:
        await settlement
    except BusError as error:
        _logger.warning("a report was not settled: %s", error)
