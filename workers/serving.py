"""A worker's lanes and its announcements, from the first pull to the last acknowledgement."""

import asyncio
import logging
from collections.abc import Sequence

from workers.announcing import Announcing
from workers.pull_loop import PullLoop

logger = logging.getLogger(__name__)


async def serve_lanes(
    loops: Sequence[PullLoop],
    announcer: Announcing,
    stop: asyncio.Event,
    *,
    draining: asyncio.Event,
    drain_s: float,
) -> None:
    """Announce and pull until ``stop`` is set, then drain.

    Args:
        loops: the lanes.
        announcer: says that the worker is there.
        stop: tells it to leave.
        draining: set when no new work is taken any more; handlers look at it.
        drain_s: how long work in hand may take from then on.
    """
    await announcer.start()
    lanes = [asyncio.create_task(loop.run(draining)) for loop in loops]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopped, *lanes}, return_when=asyncio.FIRST_COMPLETED)
        for lane in lanes:
            if lane.done():
                lane.result()  # only an error ends a lane that was not told to stop
        logger.info("stopping: no new work is taken, work in hand is finished or handed over")
        # First of all, so that others get what is handed back even while a bus is slow to say goodbye to.
        draining.set()
        (_, unfinished), _ = await asyncio.gather(asyncio.wait(lanes, timeout=drain_s), announcer.leave())
        if unfinished:
            logger.warning("work in hand took longer than %g s and will be delivered again", drain_s)
    finally:
        for task in (stopped, *lanes):
            task.cancel()
        await asyncio.gather(stopped, *lanes, return_exceptions=True)
