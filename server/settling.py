"""Settling what workers have reported: acknowledged, or given back for want of a database."""

import asyncio
import logging
from collections.abc import Awaitable, Collection
from typing import Final

from bus.errors import BusError
from bus.port import Delivery
from server.errors import ServiceError

_logger = logging.getLogger(__name__)

_RETRY_DELAY_S: Final = 1.0


async def settled(settlement: Awaitable[None]) -> None:
    """Settle a delivery; one that can't be is delivered again, which does no harm."""
    try:
        await settlement
    except BusError as error:
        _logger.warning("a report was not settled: %s", error)


async def give_back(job_id: str, deliveries: Collection[Delivery], error: Exception) -> None:
    """Give reports about a job back that could not be written, and say why."""
    # A database that is away says enough in one line.
    _logger.error(
        "%d reports about job %s are given back: %s",
        len(deliveries),
        job_id,
        error,
        exc_info=None if isinstance(error, ServiceError) else error,
    )
    await asyncio.gather(*(settled(delivery.nak(delay_s=_RETRY_DELAY_S)) for delivery in deliveries))
