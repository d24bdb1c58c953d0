"""The bulk lane: claim a job, work on it, settle its delivery.

A worker never decides what is true: any server answers a claim with the attempt that fences everything the
worker reports, or says that there is nothing to do.

What goes wrong is of one of three kinds. With time it may pass: the job is handed back, each time for longer.
It never will: the job fails at once, with its code. Or the process dies of it and nobody is left to tell: the
next claim says how many attempts were lost like that, and after the second one the job is worked on input by
input in a process of its own, so that nobody else's work dies with it. If that dies too, the job has failed,
and its message becomes a dead letter.
"""

import asyncio
import logging

from bus import subjects
from bus.consumer import holding, processing
from bus.dead_letters import Death
from bus.errors import BusError
from bus.messages import EmbedJob, JobAttemptFailed, JobAttemptLetGo, JobClaimed, JobClaimRefused
from bus.port import Delivery
from workers.cancel_orders import CancelOrders
from workers.embed.claiming import Claiming
from workers.embed.items import PipelineNotHosted
from workers.embed.job_attempt import DiedOf, End, Hopeless, JobAttempt, Signals, Tools
from workers.embed.sacrifice.engine import NotStarted
from workers.retries import backoff_s

logger = logging.getLogger(__name__)

_HOLD_EVERY_S = 4.0
#: A job whose pipeline is not here may yet meet a worker that has it; after this many tries it fails.
_MAX_TRIES_ELSEWHERE = 5
#: Attempts lost with their process, after which the next one is made alone.
_SUSPECT_AFTER = 2
#: And after this many it is not begun: then the worker beside the child goes, too, whatever the reason is.
_GIVE_UP_AFTER = 6
#: The last word about an attempt; without it the attempt counts as lost, which does no great harm.
_LAST_WORD_S = 3.0
#: What it gets before the job itself goes back, which waits for nothing longer: another worker is to have it
#: within a second.
_HEAD_START_S = 0.1


class BulkHandler:
    """Works on `EmbedJob` commands. Setting ``draining`` ends attempts after the chunks in hand."""

    def __init__(self, tools: Tools, draining: asyncio.Event, orders: CancelOrders) -> None:
        self._tools = tools
        self._claiming = Claiming(tools.bus, tools.worker_id)
        self._draining = draining
        self._orders = orders

    async def handle(self, delivery: Delivery) -> None:
        """Work on one job as far as it goes, and settle the delivery.

        Raises:
            BusError: the delivery could not be settled.
        """
        command = delivery.message
        if not isinstance(command, EmbedJob):
            reason = f"{type(command).__name__} is no command of the bulk lane."
            await delivery.dead_letter(Death(code="INVALID_INPUT", reason=reason))
            return
        if self._draining.is_set():
            await delivery.nak()
            return
        try:
            with processing(delivery), self._orders.watching(command.job_id) as cancelled:
                async with holding(delivery, _HOLD_EVERY_S):
                    await self._claim_and_work(command, delivery, cancelled)
        except (BusError, PipelineNotHosted, NotStarted) as error:
            pause_s = backoff_s(delivery.num_delivered)
            logger.warning("job %s is handed back for %.1f s: %s", command.job_id, pause_s, error)
            await delivery.nak(delay_s=pause_s)

    async def _claim_and_work(self, command: EmbedJob, delivery: Delivery, cancelled: asyncio.Event) -> None:
        answer = await self._claiming.claim(command)
        if isinstance(answer, JobClaimRefused):
            logger.info("job %s needs no work: it is %s", command.job_id, answer.reason)
            await delivery.ack(is_confirmed=False)
            return
        if answer.num_lost >= _GIVE_UP_AFTER:
            await self._bury(answer, delivery, f"The job has ended {answer.num_lost} worker processes.")
            return
        try:
            end = await self._attempt(answer, cancelled)
        except DiedOf as died:
            reason = f"Input {died.index} has ended the process that embedded it, alone: it {died.how}."
            await self._bury(answer, delivery, reason)
        except Hopeless as hopeless:
            logger.exception("job %s is given up", command.job_id)
            await self._fail(answer, hopeless.code, str(hopeless))
            await delivery.ack()
        except PipelineNotHosted:
            if delivery.num_delivered <= _MAX_TRIES_ELSEWHERE:
                await self._let_go(answer, End.DRAINED)
                raise
            await self._fail(answer, "PIPELINE_UNAVAILABLE", f"No worker hosts {answer.spec.pipeline}.")
            await delivery.ack()
        except (BusError, NotStarted):
            await self._let_go(answer, End.DRAINED)
            raise
        else:
            await self._leave(answer, delivery, end)

    async def _attempt(self, claimed: JobClaimed, cancelled: asyncio.Event) -> End:
        tools = self._tools
        signals = Signals(draining=self._draining, cancelled=cancelled)
        is_suspect = claimed.num_lost >= _SUSPECT_AFTER
        if is_suspect:
            logger.warning(
                "job %s was lost %d times: it is worked on alone", claimed.job_id, claimed.num_lost
            )
        return await JobAttempt(tools, claimed, signals, tools.alone if is_suspect else tools.engine).run()

    async def _leave(self, claimed: JobClaimed, delivery: Delivery, end: End) -> None:
        """Settle the delivery of an attempt that has ended by itself or was told to."""
        if end is End.DONE:
            # Its chunks are stored: delivered again for want of an ack, the job is refused as finished.
            await delivery.ack(is_confirmed=False)
            return
        telling = asyncio.create_task(self._let_go(claimed, end))
        try:
            await asyncio.wait({telling}, timeout=_HEAD_START_S)
            await (delivery.nak() if end is End.DRAINED else delivery.ack())
            await telling
        finally:
            telling.cancel()

    async def _let_go(self, claimed: JobClaimed, end: End) -> None:
        """Say that the attempt has ended and its worker lives."""
        let_go = JobAttemptLetGo(
            job_id=claimed.job_id,
            attempt=claimed.attempt,
            reason="cancelled" if end is End.CANCELLED else "handed_back",
        )
        try:
            await self._tools.bus.publish(
                subjects.job_event(claimed.job_id),
                let_go,
                message_id=f"{claimed.job_id}:{claimed.attempt}:let-go",
                deadline_s=_LAST_WORD_S,
            )
        except BusError as error:
            logger.warning("nobody knows that attempt %d was let go: %s", claimed.attempt, error)

    async def _bury(self, claimed: JobClaimed, delivery: Delivery, reason: str) -> None:
        """Fail a job that processes die of and keep its message for an operator."""
        logger.error("job %s is given up: %s", claimed.job_id, reason)
        await self._fail(claimed, "INTERNAL", reason)
        await delivery.dead_letter(Death(code="INTERNAL", reason=reason, attempt=claimed.attempt))

    async def _fail(self, claimed: JobClaimed, code: str, message: str) -> None:
        failed = JobAttemptFailed(job_id=claimed.job_id, attempt=claimed.attempt, code=code, message=message)
        await self._tools.bus.publish(
            subjects.job_event(claimed.job_id),
            failed,
            message_id=f"{claimed.job_id}:{claimed.attempt}:failed",
        )
