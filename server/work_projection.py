"""Reports of work that one worker does alone become history, in the order of their numbers and once each.

Reports arrive on whichever server pulls them, so that a later one may be here before an earlier one is
counted elsewhere: it goes back for a moment. All else is as in ``server.projections``.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from opentelemetry.metrics import Counter

from bus.consumer import processing_batch
from bus.messages.work import Report
from bus.port import Bus, Delivery
from server.database import Database
from server.dataset_release import Released
from server.errors import ServiceError
from server.nudges import nudge
from server.records import UsageRecord
from server.settling import give_back, settled
from server.usage import UsageMeter
from server.work_projection_rows import lock_work, write_work
from server.work_tally import Outcome, WorkTally

_logger = logging.getLogger(__name__)

#: Until the reports before it are counted: by another server, or out of another window.
_EARLY_DELAY_S = 0.2


class WorkDelivery(NamedTuple):
    """A report as the bus has delivered it."""

    delivery: Delivery
    report: Report


class _Written(msgspec.Struct, kw_only=True):
    """What became of the reports about one job, or why nothing did; no tally of a job that is unknown."""

    tally: WorkTally | None = None
    outcomes: Sequence[Outcome] = ()
    error: Exception | None = None


class WorkProjection:
    """Writes each job's share of a window of reports in one transaction, and settles its deliveries."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        usage: UsageMeter,
        *,
        wake: Callable[[], None],
        reports: Counter,
        ended: Counter,
    ) -> None:
        """Make one.

        Args:
            db: where the history is.
            bus: where subscribers are nudged.
            usage: what users have used.
            wake: called when something new is in the outbox.
            reports: counts reports by what became of them.
            ended: counts jobs that ended.
        """
        self._db = db
        self._bus = bus
        self._usage = usage
        self._wake = wake
        self._reports = reports
        self._ended = ended

    async def settle(self, by_job: Mapping[str, Sequence[WorkDelivery]]) -> None:
        """Write what was delivered about these jobs, and acknowledge it or give it back."""
        ordered = {
            job_id: sorted(reports, key=lambda one: one.report.number) for job_id, reports in by_job.items()
        }
        written, released = await self._write(
            {job_id: [one.report for one in reports] for job_id, reports in ordered.items()}
        )
        if released.num_ready:
            self._wake()
        for job_id, reports in ordered.items():
            with processing_batch([one.delivery for one in reports]):
                await self._settle(job_id, reports, written[job_id])
        for failed_id, seq in released.failed.items():
            self._ended.add(1, {"state": "FAILED"})
            await nudge(self._bus, failed_id, seq)

    async def _settle(self, job_id: str, reports: Sequence[WorkDelivery], written: _Written) -> None:
        if written.error is not None:
            await give_back(job_id, [one.delivery for one in reports], written.error)
            return
        tally = written.tally
        if tally is None:
            for one in reports:
                await settled(one.delivery.ack(is_confirmed=False))
            self._reports.add(len(reports), {"outcome": "unknown"})
            return
        for one, outcome in zip(reports, written.outcomes, strict=True):
            if outcome == "early":
                await settled(one.delivery.nak(delay_s=_EARLY_DELAY_S))
            else:
                # Delivered again for want of an ack it is a duplicate.
                await settled(one.delivery.ack(is_confirmed=False))
        for outcome, count in tally.outcomes.items():
            self._reports.add(count, {"outcome": outcome})
        if tally.compute_s:
            self._usage.record(tally.user_id, UsageRecord(compute_s=tally.compute_s))
        if tally.events:
            if tally.state.is_final:
                self._ended.add(1, {"state": tally.state.value})
            await nudge(self._bus, tally.id, tally.last_seq)

    async def _write(self, by_job: Mapping[str, Sequence[Report]]) -> tuple[dict[str, _Written], Released]:
        """Write the window; what keeps one job from being written must not keep the others."""
        try:
            return await self._project(by_job)
        except ServiceError as error:
            return {job_id: _Written(error=error) for job_id in by_job}, Released()
        except Exception as error:  # noqa: BLE001 - the edge that must survive
            # Whatever it is, it is told where the reports are given back, and they come again.
            if len(by_job) == 1:
                return {job_id: _Written(error=error) for job_id in by_job}, Released()
        written: dict[str, _Written] = {}
        released = Released()
        for job_id in by_job:
            one, further = await self._write({job_id: by_job[job_id]})
            written |= one
            released.add(further)
        return written, released

    async def _project(self, by_job: Mapping[str, Sequence[Report]]) -> tuple[dict[str, _Written], Released]:
        """Apply reports, in order of their numbers, and write it all, or nothing."""
        written = {job_id: _Written() for job_id in by_job}
        async with self._db.transaction():
            tallies = await lock_work(self._db, by_job)
            for job_id, tally in tallies.items():
                outcomes = [tally.apply(report) for report in by_job[job_id]]
                written[job_id] = _Written(tally=tally, outcomes=outcomes)
            released = await write_work(self._db, tallies.values())
        return written, released
