"""What workers report becomes history: the only writer of ``job_events`` once a job exists and is claimed.

Exactly once, whatever the bus does: under the lock of the job's row the attempt is compared, what is already
there is left alone, and the rest gets the next sequence numbers. The report is acknowledged after the commit;
a process that dies between the two gets it again and finds nothing new in it.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from opentelemetry.metrics import Meter

from bus import tracing
from bus.consumer import processing_batch
from bus.dead_letters import Death
from bus.messages import ItemsEmbedded, JobAttemptFailed, JobAttemptLetGo
from bus.messages.work import Report as WorkReport
from bus.port import Bus, Delivery
from bus.topology import PROJECTION
from server.database import Database
from server.errors import ServiceError
from server.job_rows import parse_job_id
from server.job_tally import JobTally, Report
from server.nudges import nudge
from server.projection_rows import find_done, lock_jobs, write_jobs
from server.records import UsageRecord
from server.repeating import Repeating
from server.settling import give_back, settled
from server.usage import UsageMeter
from server.work_projection import WorkDelivery, WorkProjection

_logger = logging.getLogger(__name__)

#: How many reports are taken from the bus at once.
_WINDOW = 256
_FETCH_WAIT_S = 5.0


class _Report(NamedTuple):
    delivery: Delivery
    message: Report


#: What became of each known job of a window, or why it was not written.
_Writing = asyncio.Task[dict[str, JobTally | Exception]]


class Projection:
    """Pulls reports in windows and writes each job's share of a window in one transaction."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        usage: UsageMeter,
        *,
        meter: Meter,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """Make one; ``wake`` is called when something new is in the outbox."""
        self._db = db
        self._bus = bus
        self._usage = usage
        self._puller = bus.puller(PROJECTION)
        self._loop = Repeating(self.step, name="projection", every_s=0.0)
        self._reports = meter.create_counter(
            "towhee.job.reports", description="Reports of workers: counted, duplicate, stale, late, unknown."
        )
        self._ended = meter.create_counter("towhee.job.ended", description="Jobs that ended, by their state.")
        self._work = WorkProjection(db, bus, usage, wake=wake, reports=self._reports, ended=self._ended)

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
        work: defaultdict[str, list[WorkDelivery]] = defaultdict(list)
        for delivery in await self._puller.fetch(limit=_WINDOW, wait_s=_FETCH_WAIT_S):
            message = delivery.message
            if isinstance(message, ItemsEmbedded | JobAttemptFailed | JobAttemptLetGo):
                # A worker may spell an id in another way; one that none can have is unknown.
                job_id = parse_job_id(message.job_id)
                by_job[str(job_id or message.job_id)].append(_Report(delivery, message))
            elif isinstance(message, WorkReport):
                job_id = parse_job_id(message.job_id)
                work[str(job_id or message.job_id)].append(WorkDelivery(delivery, message))
            else:
                reason = f"{type(message).__name__} is no report about a job."
                await delivery.dead_letter(Death(code="INVALID_INPUT", reason=reason))
        if work:
            # Beside the others: neither family waits for the other's transaction.
            await asyncio.gather(self._settle_embedding(by_job), self._work.settle(work))
        else:
            await self._settle_embedding(by_job)

    async def _settle_embedding(self, by_job: Mapping[str, list[_Report]]) -> None:
        if not by_job:
            return
        if tracing.find_tracer() is None:
            # Nobody sees how long a job waits: a task for each would be for nothing.
            await self._settle_untraced(by_job, await self._write(by_job))
            return
        # One transaction for all of them; each job waits for it in a trace of its own.
        writing = asyncio.create_task(self._write(by_job))
        try:
            await asyncio.gather(
                *(self._settle_in_trace(job_id, reports, writing) for job_id, reports in by_job.items())
            )
        finally:
            writing.cancel()

    async def _settle_untraced(
        self, by_job: Mapping[str, list[_Report]], jobs: Mapping[str, JobTally | Exception]
    ) -> None:
        failed: list[str] = []
        for job_id, reports in by_job.items():
            if isinstance(jobs.get(job_id), Exception):
                failed.append(job_id)
                continue
            with processing_batch([report.delivery for report in reports]):
                await self._settle(job_id, reports, jobs.get(job_id))
        # Giving back waits for the bus; so all of them wait together.
        await asyncio.gather(*(self._settle(job_id, by_job[job_id], jobs[job_id]) for job_id in failed))

    async def _settle_in_trace(self, job_id: str, reports: list[_Report], writing: _Writing) -> None:
        with processing_batch([report.delivery for report in reports]):
            await self._settle(job_id, reports, (await asyncio.shield(writing)).get(job_id))

    async def _settle(self, job_id: str, reports: list[_Report], job: JobTally | Exception | None) -> None:
        if isinstance(job, Exception):
            await give_back(job_id, [report.delivery for report in reports], job)
            return
        for report in reports:
            # Delivered again for want of an ack it is a duplicate.
            await settled(report.delivery.ack(is_confirmed=False))
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

    async def _write(self, by_job: Mapping[str, Sequence[_Report]]) -> dict[str, JobTally | Exception]:
        """Write the window; what keeps one job from being written must not keep the others."""
        messages = {job_id: [report.message for report in reports] for job_id, reports in by_job.items()}
        try:
            return {**await self._project(messages)}
        except ServiceError as error:
            return dict.fromkeys(messages, error)
        except Exception as error:  # noqa: BLE001 - the edge that must survive
            # Whatever it is, it is told where the reports are given back, and they come again.
            if len(messages) == 1:
                return dict.fromkeys(messages, error)
        written: dict[str, JobTally | Exception] = {}
        for job_id in by_job:
            written |= await self._write({job_id: by_job[job_id]})
        return written

    async def _project(self, by_job: Mapping[str, Sequence[Report]]) -> dict[str, JobTally]:
        """Apply reports to their jobs and write it all, or nothing; jobs that are unknown are left out."""
        async with self._db.transaction():
            jobs = await lock_jobs(self._db, by_job)
            done = await find_done(self._db, {job.id: by_job[name] for name, job in jobs.items()})
            for name, job in jobs.items():
                for report in by_job[name]:
                    job.apply(report, done[job.id])
            await write_jobs(self._db, jobs.values())
        return jobs
