"""The interactive lane as one replica sees it: commands go out, rows come back into its one inbox."""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

from bus import subjects
from bus.envelope import Message
from bus.errors import BusError, PublishFailed, StreamFull
from bus.messages import EmbeddingRefused, EmbedNow, Input, VectorsComputed
from bus.port import Bus, Subscription
from server.assembly import Assembly, MalformedAnswer
from server.errors import Busy, PipelineUnavailable, ServiceError, TimedOut, refusal
from server.records import PipelineRecord

_logger = logging.getLogger(__name__)

_RETRY_AFTER_S: Final = 1.0
#: Commands of one replica that may be unanswered: at 200 kB each, 400 MB at the very most.
_MAX_PENDING: Final = 2048


class Flight:
    """One command on its way, shared by everybody who waits for a row of it.

    Attributes:
        assembly: the rows that have arrived.
        landed: done when all rows are there or none will come any more; never fails.
        error: why no rows will come; None while they may, or when all have come.
    """

    __slots__ = (
        "_on_end",
        "assembly",
        "command",
        "context",
        "error",
        "landed",
        "pool",
        "sender",
        "sendings",
        "timer",
        "waiters",
    )

    def __init__(
        self, command: EmbedNow, pipeline: PipelineRecord, on_end: Callable[["Flight"], None]
    ) -> None:
        self.command = command
        self.pool = pipeline.pool
        self.assembly = Assembly(len(command.inputs), pipeline.dimension)
        self.landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.error: ServiceError | None = None
        self.waiters = 1
        #: How often the command was put on the bus; half of its message id.
        self.sendings = 0
        self.sender: asyncio.Task[None] | None = None
        #: Of the request that launched it: whoever sends it again, after a reconnect, is in no trace.
        self.context = copy_context()
        self.timer: asyncio.TimerHandle | None = None
        self._on_end = on_end

    def end(self, error: ServiceError | None) -> None:
        """Tell everybody, once."""
        if self.landed.done():
            return
        self.error = error
        if self.timer is not None:
            self.timer.cancel()
        self._on_end(self)
        self.landed.set_result(None)


class InteractiveLane:
    """Publishes commands and assembles their answers until their deadline.

    An un-acked command is delivered again when its worker dies. Streams of this lane are in memory, so after
    a bus restart everything that is unanswered is published again, under a new message id: the old one may
    be remembered, with its answer lost.
    """

    def __init__(self, bus: Bus, *, replica_id: str, max_pending: int = _MAX_PENDING) -> None:
        self._bus = bus
        self._max_pending = max_pending
        self._inbox = subjects.inbox(replica_id)
        self._pending: dict[str, Flight] = {}
        self._subscription: Subscription | None = None

    @property
    def num_pending(self) -> int:
        """Commands that are not answered yet."""
        return len(self._pending)

    async def start(self) -> None:
        """Open the inbox."""
        self._bus.on_reconnect(self._send_again)
        self._subscription = await self._bus.follow(self._inbox, self._receive)

    async def close(self) -> None:
        """Close the inbox. Whoever still waits is told to try elsewhere."""
        if self._subscription is not None:
            await self._subscription.close()
        senders = [flight.sender for flight in self._pending.values() if flight.sender is not None]
        for flight in list(self._pending.values()):
            flight.end(PipelineUnavailable("This server is shutting down.", retry_after_s=_RETRY_AFTER_S))
        self._pending.clear()
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)

    def require_room(self, num_commands: int) -> None:
        """Return if so many commands may be launched now.

        Raises:
            Busy: they may not; nobody is left to wait for what could not be answered in time anyway.
        """
        if len(self._pending) + num_commands > self._max_pending:
            raise Busy("The workers have more to do than they can take.", retry_after_s=_RETRY_AFTER_S)

    def launch(
        self,
        pipeline: PipelineRecord,
        inputs: Sequence[Input],
        *,
        deadline: float,
        on_end: Callable[[Flight], None],
    ) -> Flight:
        """Send one command, with the caller as its first waiter. Returns at once.

        Args:
            pipeline: where it goes.
            inputs: at most 200 kB of them.
            deadline: in the running loop's time; nobody is kept waiting longer.
            on_end: called once, before anybody who waits runs again.
        """
        loop = asyncio.get_running_loop()
        command = EmbedNow(
            request_id=uuid4().hex,
            pipeline=pipeline.name,
            inputs=list(inputs),
            reply_to=self._inbox,
            deadline_at=datetime.now(UTC) + timedelta(seconds=deadline - loop.time()),
            model=pipeline.model,
        )
        flight = Flight(command, pipeline, on_end)
        flight.timer = loop.call_at(deadline, self._expire, flight)
        self._pending[command.request_id] = flight
        self._send(flight)
        return flight

    def leave(self, flight: Flight) -> None:
        """Wait no longer. With its last waiter the flight is forgotten; late answers find nobody."""
        flight.waiters -= 1
        if flight.waiters == 0 and not flight.landed.done():
            if flight.sender is not None:
                flight.sender.cancel()
            self._end(flight, TimedOut("Everybody who waited for this has left."))

    def _end(self, flight: Flight, error: ServiceError | None) -> None:
        self._pending.pop(flight.command.request_id, None)
        flight.end(error)

    def _expire(self, flight: Flight) -> None:
        self._end(flight, TimedOut("No worker answered before the deadline.", retry_after_s=_RETRY_AFTER_S))

    def _send(self, flight: Flight) -> None:
        flight.sendings += 1
        flight.sender = asyncio.create_task(self._publish(flight), context=flight.context)

    async def _send_again(self) -> None:
        unanswered = [flight for flight in self._pending.values() if flight.sender and flight.sender.done()]
        if unanswered:
            _logger.warning("the bus is back: %d unanswered commands are sent again", len(unanswered))
        for flight in unanswered:
            self._send(flight)

    async def _publish(self, flight: Flight) -> None:
        command = flight.command
        remaining_s = max((command.deadline_at - datetime.now(UTC)).total_seconds(), 0.001)
        try:
            await self._bus.publish(
                subjects.interactive(flight.pool),
                command,
                message_id=f"{command.request_id}:{flight.sendings}",
                deadline_s=remaining_s,
                ttl_s=math.ceil(remaining_s),
            )
        except BusError as error:
            refused = _refusal_of(error)
            refused.__cause__ = error
            self._end(flight, refused)

    async def _receive(self, message: Message) -> None:
        if isinstance(message, VectorsComputed):
            self._take(message)
        elif isinstance(message, EmbeddingRefused):
            flight = self._pending.get(message.request_id)
            if flight is not None:
                self._end(flight, refusal(message.code, message.message))
        else:
            _logger.warning("%s has no place in an inbox", type(message).__name__)

    def _take(self, chunk: VectorsComputed) -> None:
        flight = self._pending.get(chunk.request_id)
        if flight is None:
            return
        try:
            flight.assembly.add(chunk)
        except MalformedAnswer as error:
            _logger.warning("answer of pipeline %s: %s", flight.command.pipeline, error)
            changed = PipelineUnavailable(
                "The pipeline changed while it worked on this. Send it again.", retry_after_s=_RETRY_AFTER_S
            )
            changed.__cause__ = error
            self._end(flight, changed)
            return
        if flight.assembly.is_complete:
            self._end(flight, None)


def _refusal_of(error: BusError) -> ServiceError:
    if isinstance(error, StreamFull):
        return Busy("The workers have more to do than they can take.", retry_after_s=_RETRY_AFTER_S)
    if isinstance(error, PublishFailed):
        return TimedOut("The request could not be handed to a worker in time.", retry_after_s=_RETRY_AFTER_S)
    _logger.error("the interactive lane refused a command: %s", error)
    return PipelineUnavailable("The workers can't be reached.", retry_after_s=_RETRY_AFTER_S)
