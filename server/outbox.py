"""Rows of the outbox become messages on the bus; what the bus has lost becomes a row again."""

import logging
from collections.abc import Sequence
from typing import Any

from opentelemetry.metrics import Meter

from bus import codec, tracing
from bus.errors import BusError, BusUnavailable, NoAnswer, PublishFailed, StreamFull
from bus.port import Bus
from server.database import Database
from server.repeating import Repeating
from server.sweeper import Sweeper

_logger = logging.getLogger(__name__)

#: Rows published in one transaction, which holds a connection for as long as the bus takes.
_BATCH = 32
_PUBLISH_DEADLINE_S = 5.0

#: The next row would fare no better now.
_BUS_TROUBLE = (BusUnavailable, NoAnswer, PublishFailed, StreamFull)


class OutboxRelay:
    """Publishes what was written to the outbox, in every server at once without getting in each other's way.

    A row is marked as sent after the bus has acknowledged it. A process that dies between the two leaves the
    row to be published again under the same message id, which the stream swallows.
    """

    def __init__(self, db: Database, bus: Bus, *, meter: Meter, poll_s: float = 1.0) -> None:
        self._db = db
        self._bus = bus
        self._loop = Repeating(self.relay, name="outbox relay", every_s=poll_s)
        self._sweeper = Sweeper(db, wake=self.wake, meter=meter)
        self._delay = meter.create_histogram(
            "towhee.outbox.duration", unit="s", description="From a row's transaction to its acknowledgement."
        )
        self._failures = meter.create_counter(
            "towhee.outbox.failures", description="Attempts to publish a row that the bus did not take."
        )

    async def start(self) -> None:
        """Relay, and look for lost jobs, from now on."""
        self._bus.on_reconnect(self._on_reconnect)
        self._loop.start()
        self._sweeper.start()

    def wake(self) -> None:
        """Look at once: a row has just been committed in this process."""
        self._loop.wake()

    async def close(self) -> None:
        """Finish the batch in hand."""
        await self._sweeper.close()
        await self._loop.close()

    async def relay(self) -> None:
        """Publish every row that waits and that no other server has in hand."""
        last_id = 0
        is_more = True
        while is_more:
            async with self._db.transaction():
                rows = await self._lock(last_id)
                sent, is_bus_well = await self._publish(rows)
                await self._mark(sent)
            is_more = is_bus_well and len(rows) == _BATCH
            last_id = rows[-1]["id"] if rows else last_id

    async def _on_reconnect(self) -> None:
        self.wake()

    async def _lock(self, last_id: int) -> list[dict[str, Any]]:
        return await self._db.fetch(
            "SELECT id, subject, message_id, message, traceparent,"
            " extract(epoch FROM clock_timestamp() - created_at)::float8 AS age_s"
            " FROM outbox WHERE sent_at IS NULL AND id > {} ORDER BY id LIMIT {} FOR UPDATE SKIP LOCKED",
            last_id,
            _BATCH,
        )

    async def _publish(self, rows: Sequence[dict[str, Any]]) -> tuple[list[int], bool]:
        """Return the ids of the rows the bus has, and whether it makes sense to go on with further ones."""
        sent: list[int] = []
        for row in rows:
            try:
                # In the trace of the request that wrote the row, whichever process that was in.
                with tracing.continuing(_trace_of(row)):
                    await self._bus.publish(
                        row["subject"],
                        codec.decode(row["message"]),
                        message_id=row["message_id"],
                        deadline_s=_PUBLISH_DEADLINE_S,
                    )
            except BusError as error:
                _logger.warning("%s waits in the outbox: %s", row["message_id"], error)
                self._failures.add(1, {"error": type(error).__name__})
                if isinstance(error, _BUS_TROUBLE):
                    return sent, False
            else:
                sent.append(row["id"])
                self._delay.record(row["age_s"])
        return sent, True

    async def _mark(self, sent: Sequence[int]) -> None:
        if sent:
            await self._db.execute(
                "UPDATE outbox SET sent_at = now() WHERE id = ANY({}::bigint[])", list(sent)
            )


def _trace_of(row: dict[str, Any]) -> dict[str, str]:
    traceparent = row["traceparent"]
    return {} if traceparent is None else {tracing.TRACEPARENT: traceparent}
