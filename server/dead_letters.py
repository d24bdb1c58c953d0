"""Follows what the bus gives up: in every server, so that nothing stays where nobody takes it from."""

import logging

from opentelemetry.metrics import Meter

from bus.errors import BusError
from bus.port import Bus
from server.repeating import Repeating

_logger = logging.getLogger(__name__)

_WAIT_S = 5.0
_PAUSE_S = 1.0


class DeadLetterMover:
    """Moves messages that have reached their limit of deliveries to the dead letters, and counts them.

    The job of a moved message is neither lost nor failed by that: the database still has it, and the sweeper
    publishes it again under a new number. A job that has failed is another matter; its worker says so.
    """

    def __init__(self, bus: Bus, *, meter: Meter) -> None:
        self._bus = bus
        self._loop = Repeating(self.move, name="mover of dead letters", every_s=_PAUSE_S)
        self._moved = meter.create_counter(
            "towhee.dead_letters.moved", description="Messages moved for being delivered too often."
        )

    async def start(self) -> None:
        """Move from now on."""
        self._loop.start()

    async def close(self) -> None:
        """Stop; what is half done is told again, and done once."""
        await self._loop.close(grace_s=0.0)

    async def move(self) -> None:
        """Take what has been told, waiting a moment for the first."""
        try:
            self._moved.add(await self._bus.dead_letters.move(wait_s=_WAIT_S))
        except BusError as error:
            _logger.warning("dead letters stay where they are for now: %s", error)
