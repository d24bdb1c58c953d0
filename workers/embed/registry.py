"""Saying which pipelines this worker hosts, every 2 s and when asked."""

import asyncio
import logging
from collections.abc import Iterable

from bus import subjects
from bus.envelope import Message
from bus.errors import BusError
from bus.messages import HostedPipeline, PipelinesAnnounced
from bus.port import Bus, Subscription
from workers.embed.pipelines.table import PipelineEntry

logger = logging.getLogger(__name__)

ANNOUNCE_EVERY_S = 2.0


def hosted_pipelines(entries: Iterable[PipelineEntry], pool: str) -> list[HostedPipeline]:
    """Say of the table's entries what others need to know."""
    return [
        HostedPipeline(
            name=entry.name,
            version=entry.version,
            modality=entry.modality,
            dimension=entry.dimension,
            pool=pool,
            max_tokens=entry.max_tokens,
            auto_rank=entry.auto_rank,
            description=entry.description,
        )
        for entry in entries
    ]


class Announcer:
    """Announces a worker's pipelines from `start` to `leave`."""

    def __init__(
        self,
        bus: Bus,
        worker_id: str,
        pipelines: list[HostedPipeline],
        *,
        models_pool: str | None = None,
        every_s: float = ANNOUNCE_EVERY_S,
    ) -> None:
        """Nothing is said yet.

        Args:
            bus: where it is said.
            worker_id: who says it.
            pipelines: what is hosted.
            models_pool: the pool for which deployed models are loaded, if any.
            every_s: seconds between two announcements.
        """
        self._bus = bus
        self._models_pool = models_pool
        self._worker_id = worker_id
        self._pipelines = pipelines
        self._every_s = every_s
        self._asked: Subscription | None = None
        self._repeating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Announce now, and from now on."""
        self._asked = await self._bus.follow(subjects.PIPELINES_WANTED, self._answer)
        self._repeating = asyncio.create_task(self._repeat(), name="announcer")

    async def leave(self) -> None:
        """Say the last word: no more work for this worker, please."""
        if self._repeating is not None:
            self._repeating.cancel()
            await asyncio.gather(self._repeating, return_exceptions=True)
        if self._asked is not None:
            await self._asked.close()
        await self._announce(leaving=True)

    async def _answer(self, _: Message) -> None:
        await self._announce()

    async def _repeat(self) -> None:
        while True:
            await self._announce()
            await asyncio.sleep(self._every_s)

    async def _announce(self, *, leaving: bool = False) -> None:
        message = PipelinesAnnounced(
            worker_id=self._worker_id,
            pipelines=self._pipelines,
            leaving=leaving,
            models_pool=self._models_pool,
        )
        try:
            await self._bus.tell(subjects.PIPELINES_ANNOUNCED, message)
        except BusError as error:
            # The next one is due in 2 s, and servers forget a worker only after 10.
            logger.warning("could not announce the pipelines: %s", error)
