"""Orders to stop a job, told to all workers as soon as somebody cancels it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from bus import subjects
from bus.envelope import Message
from bus.messages import CancelJob
from bus.port import Bus, Subscription


class CancelOrders:
    """Follows the orders of all jobs with one subscription, and keeps those of the jobs in hand."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._in_hand: dict[str, asyncio.Event] = {}
        self._following: Subscription | None = None

    async def start(self) -> None:
        """Hear orders from now on."""
        self._following = await self._bus.follow(subjects.JOB_CANCELS_ALL, self._on_order)

    async def close(self) -> None:
        """Hear no more."""
        if self._following is not None:
            following, self._following = self._following, None
            await following.close()

    @contextmanager
    def watching(self, job_id: str) -> Iterator[asyncio.Event]:
        """Give an event that is set when the job is to be stopped. Watch, then claim: none is missed."""
        ordered = self._in_hand[job_id] = asyncio.Event()
        try:
            yield ordered
        finally:
            # A second delivery of the job may have taken the place.
            if self._in_hand.get(job_id) is ordered:
                del self._in_hand[job_id]

    async def _on_order(self, message: Message) -> None:
        if isinstance(message, CancelJob) and message.job_id in self._in_hand:
            self._in_hand[message.job_id].set()
