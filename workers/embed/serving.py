"""Both lanes and the announcements around one engine, from the first pull to the last acknowledgement."""

import asyncio
import logging

from bus.topology import embed_bulk, embed_interactive
from workers.embed.bulk import BulkHandler
from workers.embed.interactive import InteractiveHandler
from workers.embed.job_attempt import Tools
from workers.embed.pull_loop import PullLoop
from workers.embed.registry import Announcer
from workers.process import WorkerFailed

logger = logging.getLogger(__name__)

#: Commands of the interactive lane in hand at a time: a few batches' worth of single texts.
_INTERACTIVE_ROOM = 128
#: Jobs at a time. One fills the device; a second would only make both slower.
_BULK_ROOM = 1
#: A batch takes a fraction of a second; a device that is silent for this long will not come back.
_STUCK_S = 120.0
_WATCH_EVERY_S = 2.0


class EmbedWorker:
    """A worker that has its models, its bus and its object store."""

    def __init__(self, tools: Tools, announcer: Announcer, *, pool: str) -> None:
        self._tools = tools
        self._announcer = announcer
        self._draining = asyncio.Event()
        bus = tools.bus
        interactive = InteractiveHandler(bus, tools.engine, tools.objects)
        bulk = BulkHandler(tools, self._draining)
        self._loops = (
            PullLoop(
                "interactive", bus.puller(embed_interactive(pool)), interactive.handle, room=_INTERACTIVE_ROOM
            ),
            PullLoop("bulk", bus.puller(embed_bulk(pool)), bulk.handle, room=_BULK_ROOM),
        )

    async def serve(self, stop: asyncio.Event, *, drain_s: float) -> None:
        """Announce and pull until ``stop`` is set, then drain.

        Raises:
            WorkerFailed: the device hangs.
        """
        await self._announcer.start()
        lanes = [asyncio.create_task(loop.run(self._draining)) for loop in self._loops]
        stopped = asyncio.create_task(stop.wait())
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait({stopped, watching, *lanes}, return_when=asyncio.FIRST_COMPLETED)
            for ended in (watching, *lanes):
                if ended.done():
                    ended.result()
            logger.info("stopping: no new work is taken, work in hand is finished")
            await self._announcer.leave()
            self._draining.set()
            _, unfinished = await asyncio.wait(lanes, timeout=drain_s)
            if unfinished:
                logger.warning("work in hand took longer than %g s and will be delivered again", drain_s)
        finally:
            for task in (stopped, watching, *lanes):
                task.cancel()
            await asyncio.gather(stopped, watching, *lanes, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            if self._tools.engine.busy_s > _STUCK_S:
                raise WorkerFailed(f"the device has been silent for {_STUCK_S:g} s; the worker gives up")
