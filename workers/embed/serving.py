"""Both lanes and the announcements around one engine, from the first pull to the last acknowledgement."""

import asyncio
from collections.abc import Callable

import msgspec

from bus.messages import EmbedJob
from bus.port import Delivery
from bus.topology import embed_bulk, embed_interactive
from workers.cancel_orders import CancelOrders
from workers.embed.bulk import BulkHandler
from workers.embed.interactive import InteractiveHandler
from workers.embed.job_attempt import Tools
from workers.embed.models.preloading import Preloading
from workers.embed.registry import Announcer
from workers.process import give_up
from workers.pull_loop import PullLoop
from workers.serving import serve_lanes

#: Commands of the interactive lane in hand at a time: a few batches' worth of single texts.
_INTERACTIVE_ROOM = 128
#: Short jobs at a time: they spend more on their way than on the device. Of the others one fills it; a
#: second would only make both slower.
_BULK_ROOM = 32
#: A batch takes a fraction of a second; a device that is silent for this long will not come back.
_STUCK_S = 120.0
_WATCH_EVERY_S = 2.0


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker serves.

    Attributes:
        pool: whose work it takes.
        drain_s: how long work in hand may take once it is told to stop.
        stuck_s: for how long the device may be silent before the worker gives up.
        give_up: ends the process with a reason.
    """

    pool: str
    drain_s: float
    stuck_s: float = _STUCK_S
    give_up: Callable[[str], None] = give_up


class EmbedWorker:
    """A worker that has its models, its bus and its object store."""

    def __init__(self, tools: Tools, announcer: Announcer, settings: ServeSettings) -> None:
        self._tools = tools
        self._announcer = announcer
        self._settings = settings
        self._draining = asyncio.Event()
        bus, pool = tools.bus, settings.pool
        self._orders = CancelOrders(bus)
        self._preloading = None if tools.models is None else Preloading(bus, tools.models, pool=pool)
        interactive = InteractiveHandler(tools)
        bulk = BulkHandler(tools, self._draining, self._orders)
        self._loops = (
            PullLoop(
                "interactive", bus.puller(embed_interactive(pool)), interactive.handle, room=_INTERACTIVE_ROOM
            ),
            PullLoop("bulk", bus.puller(embed_bulk(pool)), bulk.handle, room=_BULK_ROOM, is_short=_is_short),
        )

    async def serve(self, stop: asyncio.Event) -> None:
        """Announce and pull until ``stop`` is set, then drain."""
        await self._orders.start()
        if self._preloading is not None:
            await self._preloading.start()
        watching = asyncio.create_task(self._watch())
        try:
            drain_s = self._settings.drain_s
            await serve_lanes(self._loops, self._announcer, stop, draining=self._draining, drain_s=drain_s)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            if self._preloading is not None:
                await self._preloading.close()
            await self._orders.close()

    async def _watch(self) -> None:
        stuck_s = self._settings.stuck_s
        while self._tools.engine.busy_s <= stuck_s:  # noqa: ASYNC110  silence sets no event
            await asyncio.sleep(min(_WATCH_EVERY_S, stuck_s))
        self._settings.give_up(f"the device has been silent for {stuck_s:g} s; the worker gives up")


def _is_short(delivery: Delivery) -> bool:
    return isinstance(delivery.message, EmbedJob) and delivery.message.is_short
