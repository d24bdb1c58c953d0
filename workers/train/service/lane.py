"""A lane of long work: a message is only a token, and a server says which job its holder gets.

The token is held, unsettled, until that job is over. So there are never fewer tokens than open jobs, and a
worker that dies leaves one behind for whoever goes on.
"""

import asyncio
import logging
import random

from bus.consumer import holding, processing
from bus.dead_letters import Death
from bus.errors import BusError
from bus.messages import GenerateSamples, TrainModel, ValidateDataset, WorkClaimed, WorkRefused
from bus.messages.work import Lane
from bus.port import Delivery
from bus.requests import claim_work, let_go_work
from workers.cancel_orders import CancelOrders
from workers.retries import backoff_s
from workers.train.service.attempt import Attempt, Signals
from workers.train.service.ends import End
from workers.train.service.tools import Tools

logger = logging.getLogger(__name__)

#: While a lane has only jobs that somebody else works on. Never the same for all, in seconds.
_LATER_S = (1.0, 2.0)
_LET_GO_EVERY_S = 0.1
#: Without an answer for this long the attempt counts as lost, which does no great harm.
_LET_GO_S = 3.0


class LaneHandler:
    """Works on whatever is next in a lane. Setting ``draining`` ends attempts as soon as may be."""

    def __init__(self, tools: Tools, lane: Lane, draining: asyncio.Event, orders: CancelOrders) -> None:
        self._tools = tools
        self._lane = lane
        self._draining = draining
        self._orders = orders

    async def handle(self, delivery: Delivery) -> None:
        """Work on one job as far as it goes, and settle the delivery.

        Raises:
            BusError: the delivery could not be settled.
        """
        token = delivery.message
        if not isinstance(token, TrainModel | ValidateDataset | GenerateSamples):
            reason = f"{type(token).__name__} is no command of the {self._lane} lane."
            await delivery.dead_letter(Death(code="INVALID_INPUT", reason=reason))
            return
        if self._draining.is_set():
            await delivery.nak()
            return
        try:
            with processing(delivery):
                async with holding(delivery, self._tools.times.hold_every_s):
                    await self._claim_and_work(token.job_id, delivery)
        except BusError as error:
            pause_s = backoff_s(delivery.num_delivered)
            logger.warning("a message of the %s lane goes back for %.1f s: %s", self._lane, pause_s, error)
            await delivery.nak(delay_s=pause_s)

    async def _claim_and_work(self, named: str, delivery: Delivery) -> None:
        tools = self._tools
        answer = await claim_work(
            tools.bus, named, lane=self._lane, pool=tools.pool, worker_id=tools.worker_id
        )
        if isinstance(answer, WorkRefused):
            if answer.reason == "nothing":
                await delivery.ack()
            else:
                await delivery.nak(delay_s=random.uniform(*_LATER_S))  # noqa: S311  no secret
            return
        with self._orders.watching(answer.job_id) as cancelled:
            signals = Signals(draining=self._draining, cancelled=cancelled)
            attempt = Attempt(tools, answer, signals)
            logger.info("job %s, attempt %d: begun", answer.job_id, answer.attempt)
            end = await attempt.run()
        logger.info("job %s, attempt %d: %s", answer.job_id, answer.attempt, end.name.lower())
        if end in {End.DRAINED, End.HANDED_BACK}:
            await self._let_go(answer, attempt.num_reports)
        await self._settle(delivery, end)
        if tools.prewarms and not self._draining.is_set():
            (tools.trainees if self._lane == "train" else tools.nursery).warm()

    async def _settle(self, delivery: Delivery, end: End) -> None:
        match end:
            case End.DONE | End.SUPERSEDED:
                await delivery.ack()
            case End.DRAINED:
                await delivery.nak()
            case End.HANDED_BACK | End.LOST:
                await delivery.nak(delay_s=backoff_s(delivery.num_delivered))

    async def _let_go(self, claimed: WorkClaimed, num_reports: int) -> None:
        """Let another worker have the job at once, when its reports are counted."""
        tools = self._tools
        try:
            async with asyncio.timeout(_LET_GO_S):
                while True:
                    answer = await let_go_work(
                        tools.bus,
                        claimed.job_id,
                        attempt=claimed.attempt,
                        num_reports=num_reports,
                        worker_id=tools.worker_id,
                    )
                    if answer.verdict != "later":
                        return
                    await asyncio.sleep(_LET_GO_EVERY_S)
        except (TimeoutError, BusError) as error:
            logger.warning("nobody knows that job %s was let go: %r", claimed.job_id, error)
