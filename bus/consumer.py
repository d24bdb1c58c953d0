"""What every consumer of a stream does around its work: hold the delivery, and be seen in traces."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from bus import tracing
from bus.errors import BusError
from bus.port import Delivery

_log = logging.getLogger(__name__)


@asynccontextmanager
async def holding(delivery: Delivery, every_s: float) -> AsyncIterator[None]:
    """Keep asking for another ack wait while the body runs; choose a third of the ack wait or less.

    It says that this process lives, not that the work moves. A beat that fails is logged and the next one
    tries again: the fence against two workers on one job is the claim, not the lease.
    """
    beating: list[asyncio.Task[None]] = []
    # Most work is over by then, and a timer costs less than a task that sleeps.
    first = asyncio.get_running_loop().call_later(
        every_s, lambda: beating.append(asyncio.create_task(_beat(delivery, every_s)))
    )
    try:
        yield
    finally:
        first.cancel()
        for task in beating:
            task.cancel()
            await asyncio.wait({task})


async def _beat(delivery: Delivery, every_s: float) -> None:
    while True:
        try:
            await delivery.in_progress()
        except BusError as error:
            _log.warning("%s: could not be held: %s", delivery.subject, error)
        await asyncio.sleep(every_s)


@contextmanager
def processing(delivery: Delivery) -> Iterator[None]:
    """Run in a span that belongs to the trace of whoever published the message."""
    with tracing.processing(delivery.subject, delivery.headers, num_delivered=delivery.num_delivered):
        yield


@contextmanager
def processing_batch(deliveries: Sequence[Delivery]) -> Iterator[None]:
    """Run in one span for deliveries of one subject: in the first one's trace, linked to the others."""
    first = deliveries[0]
    headers = [delivery.headers for delivery in deliveries]
    with tracing.processing_batch(first.subject, headers, num_delivered=first.num_delivered):
        yield
