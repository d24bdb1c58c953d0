"""One attempt at a job: the work, and whatever ends it from outside."""

import asyncio
import logging
from functools import partial
from typing import Protocol

import msgspec

from bus.errors import BusError
from bus.messages import (
    GenerationWork,
    TrainingWork,
    ValidationWork,
    WorkClaimed,
    WorkFailed,
)
from bus.requests import heartbeat
from workers.train.service.data_jobs import GenerationJob, ValidationJob
from workers.train.service.ends import End, Hopeless, Lost, NotStarted, StoppedEarly, Why
from workers.train.service.reporting import Draft, Reporter
from workers.train.service.tools import Tools
from workers.train.service.training_job import TrainingJob

logger = logging.getLogger(__name__)

#: Attempts lost with their processes, after which the job is to blame.
_GIVE_UP_AFTER = 3
#: What reports that are left may take when the worker stops, or the child has died.
_LAST_REPORTS_S = 5.0
#: Of the time that a worker has to drain, what a job may take that is almost done.
_SHARE_OF_WORK = 0.5


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """What may end an attempt from outside."""

    #: The worker stops.
    draining: asyncio.Event
    #: The job is to be stopped.
    cancelled: asyncio.Event


class Job(Protocol):
    """The work of one kind."""

    async def work(self) -> Draft:
        """Do it, and give the last report.

        Raises:
            Hopeless: no attempt can do it.
            Lost: the child has died.
            StoppedEarly: it was told to stop.
            NotStarted, ObjectStoreError: something is in the way that may pass.
        """

    def stop(self, why: Why) -> bool:
        """Let `work` end by itself soon; False if it has to be cancelled."""

    async def leave(self, why: Why | None) -> Draft:
        """Keep what there is to keep after `work` has not come to its end; give a cancelled job's report."""

    @property
    def spent_s(self) -> float:
        """Seconds, of processors or GPUs, that were computed for it so far."""

    async def close(self) -> None:
        """Leave nothing behind."""


class Attempt:
    """The work on a claimed job."""

    def __init__(self, tools: Tools, claimed: WorkClaimed, signals: Signals) -> None:
        self._tools = tools
        self._claimed = claimed
        self._signals = signals
        self._reporter = Reporter(
            tools.bus, tools.objects, claimed.job_id, claimed.attempt, spent_s=lambda: self._job.spent_s
        )
        self._job = self._make_job()
        self._doing: asyncio.Task[Draft] | None = None
        self._why: Why | None = None

    @property
    def num_reports(self) -> int:
        """Reports that are stored."""
        return self._reporter.num_stored

    async def run(self) -> End:
        """Work until the job is over, or it is not this worker's any more."""
        self._reporter.start()
        working = asyncio.create_task(self._work(), name=f"job {self._claimed.job_id}")
        listening = asyncio.create_task(self._listen())
        stopping = [asyncio.create_task(self._await_order()), asyncio.create_task(self._await_drain())]
        try:
            await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else listening.result()
        finally:
            for task in (working, listening, *stopping):
                task.cancel()
            await asyncio.gather(working, listening, *stopping, return_exceptions=True)
            await self._job.close()
            await self._reporter.close()

    async def _work(self) -> End:
        doing = self._doing = asyncio.create_task(self._do())
        try:
            await asyncio.wait({doing})
        finally:
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)
        if doing.cancelled():
            return await self._leave()
        try:
            await self._reporter.finish(doing.result())
        except Hopeless as hopeless:
            logger.warning("job %s is given up: %s", self._claimed.job_id, hopeless)
            await self._reporter.finish(failed(hopeless))
        except StoppedEarly:
            return await self._leave()
        except Lost as lost:
            if self._why is not None:
                return await self._leave()
            logger.warning("the process of job %s %s", self._claimed.job_id, lost)
            await self._keep_what_there_is()
            return End.LOST
        except (NotStarted, BusError) as error:
            logger.warning("job %s is handed back: %s", self._claimed.job_id, error)
            await self._keep_what_there_is()
            return End.HANDED_BACK
        return End.DONE

    async def _do(self) -> Draft:
        claimed = self._claimed
        if claimed.num_lost >= _GIVE_UP_AFTER:
            raise Hopeless(
                "INTERNAL",
                f"The job has ended {claimed.num_lost} processes and is not tried again.",
                advice="Look for something unusual in the data, or use a smaller network or batch_size.",
            )
        return await self._job.work()

    async def _leave(self) -> End:
        """End work that was stopped from outside."""
        if self._why is Why.CANCELLED:
            await self._reporter.finish(await self._job.leave(self._why))
            return End.DONE
        await self._keep_what_there_is()
        return End.DRAINED

    async def _keep_what_there_is(self) -> None:
        """Let what was done be stored and told, so that the next attempt begins there."""
        await self._job.leave(self._why)
        try:
            async with asyncio.timeout(_LAST_REPORTS_S):
                await self._reporter.flush()
        except TimeoutError:
            logger.warning("reports of job %s are left", self._claimed.job_id)

    def _stop(self, why: Why) -> None:
        if self._reporter.is_last_told or self._doing is None or self._why is Why.CANCELLED:
            return
        logger.info("job %s is stopped: %s", self._claimed.job_id, why.name.lower())
        self._why = why
        if not self._job.stop(why):
            self._doing.cancel()
        elif why is Why.DRAINING:
            asyncio.get_running_loop().call_later(
                self._tools.times.drain_s * _SHARE_OF_WORK, self._doing.cancel
            )

    async def _await_order(self) -> None:
        await self._signals.cancelled.wait()
        self._stop(Why.CANCELLED)

    async def _await_drain(self) -> None:
        await self._signals.draining.wait()
        self._stop(Why.DRAINING)

    async def _listen(self) -> End:
        """Say that the attempt is alive until a server answers that it is somebody else's."""
        claimed, tools = self._claimed, self._tools
        while True:
            # The first one at once: an order may have been given between the claim and the listening.
            try:
                answer = await heartbeat(
                    tools.bus, claimed.job_id, attempt=claimed.attempt, worker_id=tools.worker_id
                )
            except BusError as error:
                logger.warning("the heartbeat of job %s was not heard: %s", claimed.job_id, error)
            else:
                if answer.verdict == "superseded":
                    logger.info("job %s is somebody else's by now", claimed.job_id)
                    return End.SUPERSEDED
                if answer.verdict == "cancel":
                    self._signals.cancelled.set()
            await asyncio.sleep(tools.times.heartbeat_every_s)

    def _make_job(self) -> Job:
        tools, claimed = self._tools, self._claimed
        match claimed.work:
            case TrainingWork():
                return TrainingJob(tools, claimed, claimed.work, self._reporter)
            case ValidationWork():
                return ValidationJob(tools, claimed, claimed.work)
            case GenerationWork():
                return GenerationJob(tools, claimed, claimed.work)


def failed(hopeless: Hopeless) -> Draft:
    """Make the report of a job that no attempt can do."""
    return partial(
        WorkFailed,
        code=hopeless.code,
        message=hopeless.message,
        advice=hopeless.advice,
        row=hopeless.row,
    )
