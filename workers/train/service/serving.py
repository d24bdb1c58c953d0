"""Both lanes and the announcements, from the first pull to the last acknowledgement."""

import asyncio
import logging

from bus.topology import data_lane, train_lane
from workers.cancel_orders import CancelOrders
from workers.pull_loop import PullLoop
from workers.train.service.announcing import Announcer
from workers.train.service.lane import LaneHandler
from workers.train.service.tools import Tools

logger = logging.getLogger(__name__)

#: Over what attempts take to drain: their messages go back, and others are told.
_LEAVE_S = 5.0


class TrainWorker:
    """A worker that has its children, its bus and its object store."""

    def __init__(self, tools: Tools, announcer: Announcer, *, slots: int, data_slots: int) -> None:
        self._tools = tools
        self._announcer = announcer
        self._draining = asyncio.Event()
        self._orders = CancelOrders(tools.bus)
        bus, pool = tools.bus, tools.pool
        train = LaneHandler(tools, "train", self._draining, self._orders)
        data = LaneHandler(tools, "data", self._draining, self._orders)
        self._loops = (
            PullLoop("train", bus.puller(train_lane(pool)), train.handle, room=slots),
            PullLoop("data", bus.puller(data_lane(pool)), data.handle, room=data_slots),
        )

    async def serve(self, stop: asyncio.Event) -> None:
        """Announce and pull until ``stop`` is set, then drain."""
        await self._orders.start()
        await self._announcer.start()
        lanes = [asyncio.create_task(loop.run(self._draining)) for loop in self._loops]
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({stopped, *lanes}, return_when=asyncio.FIRST_COMPLETED)
            for lane in lanes:
                if lane.done():
                    lane.result()  # only an error ends a lane that was not told to stop
            logger.info("stopping: no new work is taken, work in hand is handed over")
            self._draining.set()
            drain_s = self._tools.times.drain_s + _LEAVE_S
            (_, unfinished), _ = await asyncio.gather(
                asyncio.wait(lanes, timeout=drain_s), self._announcer.leave()
            )
            if unfinished:
                logger.warning("work in hand took longer than %g s and will be begun again", drain_s)
        finally:
            for task in (stopped, *lanes):
                task.cancel()
            await asyncio.gather(stopped, *lanes, return_exceptions=True)
            await self._orders.close()
