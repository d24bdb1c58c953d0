"""Pulling deliveries of one lane and working on a bounded number of them at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from bus.errors import BusError
from bus.port import Delivery, Puller

logger = logging.getLogger(__name__)

#: How long one fetch may wait for work.
_FETCH_WAIT_S = 5.0
#: How long to wait before asking a bus again that failed.
_RETRY_S = 1.0


class PullLoop:
    """Hands deliveries to ``handle``, at most ``room`` at a time, which settles each."""

    def __init__(
        self, name: str, puller: Puller, handle: Callable[[Delivery], Awaitable[None]], *, room: int
    ) -> None:
        self._name = name
        self._puller = puller
        self._handle = handle
        self._room = room
        self._in_hand: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Pull until ``stop`` is set; then hand back what was not begun and finish what was."""
        closing = asyncio.create_task(self._close_puller(stop))
        try:
            while not stop.is_set():
                await self._take(stop)
            await closing
            if self._in_hand:
                await asyncio.wait(self._in_hand)
        finally:
            for task in (closing, *self._in_hand):
                task.cancel()
            await asyncio.gather(closing, *self._in_hand, return_exceptions=True)

    async def _take(self, stop: asyncio.Event) -> None:
        room = self._room - len(self._in_hand)
        if room <= 0:
            await asyncio.wait(self._in_hand, return_when=asyncio.FIRST_COMPLETED)
            return
        try:
            deliveries = await self._puller.fetch(limit=room, wait_s=_FETCH_WAIT_S)
        except BusError as error:
            logger.warning("the %s lane could not pull: %s", self._name, error)
            await _wait_or_stop(stop, _RETRY_S)
            return
        for delivery in deliveries:
            task = asyncio.create_task(self._settle(delivery), name=f"{self._name} delivery")
            self._in_hand.add(task)
            task.add_done_callback(self._in_hand.discard)

    async def _settle(self, delivery: Delivery) -> None:
        try:
            await self._handle(delivery)
        except BusError as error:
            # Unsettled, it is delivered again after the ack wait: to this worker or to another.
            logger.warning("a delivery of the %s lane was not settled: %s", self._name, error)
        except Exception:
            logger.exception("a delivery of the %s lane failed and will be delivered again", self._name)

    async def _close_puller(self, stop: asyncio.Event) -> None:
        """End a fetch that waits, too, so that stopping takes no longer than the work in hand."""
        await stop.wait()
        try:
            await self._puller.close()
        except BusError as error:
            logger.warning("the %s lane could not hand back what it had fetched: %s", self._name, error)


async def _wait_or_stop(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
