"""Both lanes and the announcements, from the first pull to the last acknowledgement."""

import asyncio

from bus.topology import data_lane, train_lane
from workers.cancel_orders import CancelOrders
from workers.pull_loop import PullLoop
from workers.serving import serve_lanes
from workers.train.service.announcing import Announcer
from workers.train.service.lane import LaneHandler
from workers.train.service.tools import Tools

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
        try:
            drain_s = self._tools.times.drain_s + _LEAVE_S
            await serve_lanes(self._loops, self._announcer, stop, draining=self._draining, drain_s=drain_s)
        finally:
            await self._orders.close()
