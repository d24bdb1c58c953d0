"""The interactive lane: somebody waits for each answer.

A command stays unacknowledged until it is answered, so the death of a worker means redelivery; one whose
deadline has passed is acknowledged with no compute, because nobody waits any more.
"""

import logging
import time
from datetime import UTC, datetime

from bus.consumer import holding, processing
from bus.dead_letters import Death
from bus.errors import ObjectStoreError
from bus.messages import EmbeddingRefused, EmbedNow
from bus.port import Delivery
from workers.embed.answers import answers
from workers.embed.items import Embedded, EmbedRequest, Expired, Lane, ModelRefused, PipelineNotHosted
from workers.embed.job_attempt import Tools
from workers.embed.sacrifice.engine import Died, NotStarted
from workers.embed.sources import to_sources
from workers.retries import backoff_s

logger = logging.getLogger(__name__)

#: How often a worker says that it is still at it; well within the ack wait of 12 s.
_HOLD_EVERY_S = 4.0
#: A command that was delivered this often and never answered may be what killed its worker, or only have
#: been near it: it is answered by a process of its own.
_SUSPECT_DELIVERIES = 3
_MAX_DELIVERIES = 5


class InteractiveHandler:
    """Answers `EmbedNow` commands."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._bus = tools.bus

    async def handle(self, delivery: Delivery) -> None:
        """Answer one command and settle it.

        Raises:
            BusError: the answer or the acknowledgement could not be sent.
        """
        command = delivery.message
        if not isinstance(command, EmbedNow):
            reason = f"{type(command).__name__} is no command of the interactive lane."
            await delivery.dead_letter(Death(code="INVALID_INPUT", reason=reason))
            return
        try:
            with processing(delivery):
                async with holding(delivery, _HOLD_EVERY_S):
                    await self._answer(command, delivery.num_delivered)
        except (ObjectStoreError, NotStarted) as error:
            logger.warning("request %s is handed back: %s", command.request_id, error)
            await delivery.nak(delay_s=backoff_s(delivery.num_delivered))
            return
        await delivery.ack()

    async def _answer(self, command: EmbedNow, num_delivered: int) -> None:
        left_s = (command.deadline_at - datetime.now(UTC)).total_seconds()
        if left_s <= 0:
            return
        if num_delivered > _MAX_DELIVERIES:
            await self._refuse(command, "INTERNAL", "The inputs could not be embedded.")
            return
        is_suspect = num_delivered >= _SUSPECT_DELIVERIES
        try:
            embedded = await self._embed(command, time.monotonic() + left_s, is_suspect=is_suspect)
        except Expired:
            return
        except Died as died:
            logger.error("request %s is given up: %s", command.request_id, died)  # noqa: TRY400 - all is said
            message = f"Input {command.first_index + died.index} can't be embedded: the process {died.how}."
            await self._refuse(command, "INTERNAL", message)
            return
        except PipelineNotHosted:
            await self._refuse(command, "PIPELINE_UNAVAILABLE", f"No worker hosts {command.pipeline} now.")
            return
        except ModelRefused as refused:
            await self._refuse(command, refused.code, refused.message)
            return
        for answer in answers(command, embedded):
            await self._bus.tell(command.reply_to, answer)

    async def _embed(self, command: EmbedNow, deadline: float, *, is_suspect: bool) -> Embedded:
        tools = self._tools
        embedder = tools.alone if is_suspect else tools.engine
        async with tools.hosting(command.pipeline, command.model, embedder, deadline=deadline) as pipeline:
            request = EmbedRequest(
                pipeline=pipeline,
                sources=to_sources(command.inputs, tools.objects),
                lane=Lane.INTERACTIVE,
                deadline=deadline,
            )
            return await embedder.embed(request)

    async def _refuse(self, command: EmbedNow, code: str, message: str) -> None:
        refused = EmbeddingRefused(
            request_id=command.request_id, first_index=command.first_index, code=code, message=message
        )
        await self._bus.tell(command.reply_to, refused)
