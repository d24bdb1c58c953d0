"""The bulk lane: claim a job, work on it, settle its delivery.

A worker never decides what is true: any server answers a claim with the attempt that fences everything the
worker reports, or says that there is nothing to do.
"""

import asyncio
import logging

from bus import subjects
from bus.consumer import holding, processing
from bus.errors import BusError
from bus.messages import EmbedJob, JobAttemptFailed, JobClaimed, JobClaimRefused
from bus.port import Delivery
from bus.requests import claim
from workers.embed.items import PipelineNotHosted
from workers.embed.job_attempt import End, Hopeless, JobAttempt, Tools

logger = logging.getLogger(__name__)

_HOLD_EVERY_S = 4.0
#: No server answered, or the bus or the object store failed: how long until the job is tried again.
_RETRY_S = 2.0
#: A job whose pipeline is not here may yet meet a worker that has it; after this many tries it fails.
_MAX_TRIES_ELSEWHERE = 5


class BulkHandler:
    """Works on `EmbedJob` commands. Setting ``draining`` ends attempts after the chunks in hand."""

    def __init__(self, tools: Tools, draining: asyncio.Event) -> None:
        self._tools = tools
        self._draining = draining

    async def handle(self, delivery: Delivery) -> None:
        """Work on one job as far as it goes, and settle the delivery.

        Raises:
            BusError: the delivery could not be settled.
        """
        command = delivery.message
        if not isinstance(command, EmbedJob):
            await delivery.term(f"{type(command).__name__} is no command of the bulk lane")
            return
        try:
            with processing(delivery):
                async with holding(delivery, _HOLD_EVERY_S):
                    end = await self._claim_and_work(command.job_id, delivery.num_delivered)
        except (BusError, PipelineNotHosted) as error:
            logger.warning("job %s is handed back: %s", command.job_id, error)
            await delivery.nak(delay_s=_RETRY_S)
            return
        if end is End.DRAINED:
            await delivery.nak()
        else:
            await delivery.ack()

    async def _claim_and_work(self, job_id: str, num_delivered: int) -> End:
        answer = await claim(self._tools.bus, job_id, worker_id=self._tools.worker_id)
        if isinstance(answer, JobClaimRefused):
            logger.info("job %s needs no work: it is %s", job_id, answer.reason)
            return End.STOPPED
        try:
            return await JobAttempt(self._tools, answer, self._draining).run()
        except PipelineNotHosted:
            if num_delivered <= _MAX_TRIES_ELSEWHERE:
                raise
            return await self._fail(
                answer, "PIPELINE_UNAVAILABLE", f"No worker hosts {answer.spec.pipeline}."
            )
        except Hopeless as hopeless:
            logger.exception("job %s is given up", job_id)
            return await self._fail(answer, "INTERNAL", str(hopeless))

    async def _fail(self, claim: JobClaimed, code: str, message: str) -> End:
        failed = JobAttemptFailed(job_id=claim.job_id, attempt=claim.attempt, code=code, message=message)
        await self._tools.bus.publish(
            subjects.job_event(claim.job_id), failed, message_id=f"{claim.job_id}:{claim.attempt}:failed"
        )
        return End.STOPPED
