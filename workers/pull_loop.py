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


Handle = Callable[[Delivery], Awaitable[None]]


class PullLoop:
    """Hands deliveries to ``handle``, at most ``room`` at a time, which settles each.

    With ``is_short`` the room is for deliveries of which it is true, and at most one other is in hand. How
    much comes is only known when it is here: so the windows begin with one delivery, grow while all of them
    are short, and what is too much goes back at once.
    """

    def __init__(
        self,
        name: str,
        puller: Puller,
        handle: Handle,
        *,
        room: int,
        is_short: Callable[[Delivery], bool] | None = None,
    ) -> None:
        self._name = name
        self._puller = puller
        self._handle = handle
        self._room = room
        self._is_short = is_short
        self._window = room if is_short is None else 1
        #: What has to be free again, once all the room was taken, before more is pulled: short deliveries end
        #: one by one, and a pull for each of them costs as much as one for several.
        self._step = 1 if is_short is None else max(1, room // 4)
        self._may_pull = asyncio.Event()
        self._may_pull.set()
        self._in_hand: set[asyncio.Task[None]] = set()
        #: Those of ``_in_hand`` that are not short.
        self._long: set[asyncio.Task[None]] = set()

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
        await self._may_pull.wait()
        if stop.is_set():
            return
        room = min(self._window, self._room - len(self._in_hand))
        try:
            deliveries = await self._puller.fetch(limit=room, wait_s=_FETCH_WAIT_S)
        except BusError as error:
            logger.warning("the %s lane could not pull: %s", self._name, error)
            await _wait_or_stop(stop, _RETRY_S)
            return
        for delivery in deliveries:
            if self._is_short is None or self._is_short(delivery):
                self._begin(delivery, self._handle)
            elif self._long:
                self._begin(delivery, _hand_back)
            else:
                self._begin(delivery, self._handle, among=self._long)
        if self._is_short is not None and deliveries:
            self._window = 1 if self._long else min(self._room, 2 * self._window)

    def _begin(
        self, delivery: Delivery, handle: Handle, *, among: set[asyncio.Task[None]] | None = None
    ) -> None:
        task = asyncio.create_task(self._settle(delivery, handle), name=f"{self._name} delivery")
        self._in_hand.add(task)
        if among is not None:
            among.add(task)
        if self._long or len(self._in_hand) >= self._room:
            self._may_pull.clear()
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._in_hand.discard(task)
        self._long.discard(task)
        if not self._long and len(self._in_hand) <= self._room - self._step:
            self._may_pull.set()

    async def _settle(self, delivery: Delivery, handle: Handle) -> None:
        try:
            await handle(delivery)
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


async def _hand_back(delivery: Delivery) -> None:
    await delivery.nak()


async def _wait_or_stop(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
