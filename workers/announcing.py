"""Saying that a worker is there, every 2 s and when asked; what is said is its own kind's."""

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import ClassVar

from bus.envelope import Message
from bus.errors import BusError
from bus.port import Bus, Subscription

logger = logging.getLogger(__name__)

ANNOUNCE_EVERY_S = 2.0


class Announcing(ABC):
    """Announces a worker from `start` to `leave`."""

    #: Where it is said, and where others ask for it.
    told_on: ClassVar[str]
    wanted_on: ClassVar[str]

    def __init__(self, bus: Bus, *, every_s: float) -> None:
        self._bus = bus
        self._every_s = every_s
        self._asked: Subscription | None = None
        self._repeating: asyncio.Task[None] | None = None

    @abstractmethod
    def announcement(self, *, leaving: bool) -> Message:
        """What is to be said now."""

    async def start(self) -> None:
        """Announce now, and from now on."""
        self._asked = await self._bus.follow(self.wanted_on, self._answer)
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
        try:
            await self._bus.tell(self.told_on, self.announcement(leaving=leaving))
        except BusError as error:
            # The next one is due in 2 s, and servers forget a worker only after 10.
            logger.warning("could not announce the worker: %s", error)
