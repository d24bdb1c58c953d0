"""What every user has used, by the hour."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from server.database import Database
from server.records import UsageRecord
from server.repeating import Repeating

_FLUSH_EVERY_S: Final = 2.0


class UsageMeter:
    """Adds up in memory and writes every two seconds, so that a request costs no round trip.

    What a replica had not written yet is lost with it when it is killed, and only then.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        # Bounded by who was active since the last write: without a database nobody is let in.
        self._unwritten: dict[tuple[UUID, datetime], UsageRecord] = {}
        self._flushing = Repeating(self.flush, name="usage", every_s=_FLUSH_EVERY_S)

    def start(self) -> None:
        """Begin to write."""
        self._flushing.start()

    async def close(self) -> None:
        """Write what is left, and stop."""
        await self._flushing.close()
        await self.flush()

    def record(self, user_id: UUID, usage: UsageRecord) -> None:
        """Add to the user's current hour."""
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self._add((user_id, hour), usage)

    async def total(self, user_id: UUID, since: datetime | None) -> UsageRecord:
        """Sum what the user used, from the hour that contains ``since`` on, or ever."""
        # Written first: other replicas' share is in the table, and nothing is counted twice.
        await self.flush()
        row = await self._db.fetch_one(
            """
            SELECT coalesce(sum(requests), 0)::bigint AS requests, coalesce(sum(items), 0)::bigint AS items,
                   coalesce(sum(tokens), 0)::bigint AS tokens, coalesce(sum(bytes), 0)::bigint AS bytes,
                   coalesce(sum(compute_s), 0)::float8 AS compute_s
            FROM usage_hours
            WHERE user_id = {} AND ({}::timestamptz IS NULL OR hour >= date_trunc('hour', {}::timestamptz))
            """,
            user_id,
            since,
            since,
        )
        return UsageRecord(**(row or {}))

    async def flush(self) -> None:
        """Write what was added since the last time, in one statement."""
        if not self._unwritten:
            return
        batch, self._unwritten = self._unwritten, {}
        is_written = False
        try:
            await self._db.execute(
                # The join drops what belongs to accounts that were deleted meanwhile.
                """
                INSERT INTO usage_hours AS kept (user_id, hour, requests, items, tokens, bytes, compute_s)
                SELECT added.* FROM unnest({}::uuid[], {}::timestamptz[], {}::bigint[], {}::bigint[],
                                           {}::bigint[], {}::bigint[], {}::float8[])
                    AS added (user_id, hour, requests, items, tokens, bytes, compute_s)
                JOIN users ON users.id = added.user_id
                ORDER BY added.user_id, added.hour
                ON CONFLICT (user_id, hour) DO UPDATE SET
                    requests = kept.requests + excluded.requests, items = kept.items + excluded.items,
                    tokens = kept.tokens + excluded.tokens, bytes = kept.bytes + excluded.bytes,
                    compute_s = kept.compute_s + excluded.compute_s
                """,
                [user_id for user_id, _ in batch],
                [hour for _, hour in batch],
                [usage.requests for usage in batch.values()],
                [usage.items for usage in batch.values()],
                [usage.tokens for usage in batch.values()],
                [usage.bytes for usage in batch.values()],
                [usage.compute_s for usage in batch.values()],
            )
            is_written = True
        finally:
            if not is_written:
                for key, usage in batch.items():
                    self._add(key, usage)

    def _add(self, key: tuple[UUID, datetime], usage: UsageRecord) -> None:
        before = self._unwritten.get(key, _NOTHING)
        self._unwritten[key] = UsageRecord(
            requests=before.requests + usage.requests,
            items=before.items + usage.items,
            tokens=before.tokens + usage.tokens,
            bytes=before.bytes + usage.bytes,
            compute_s=before.compute_s + usage.compute_s,
        )


_NOTHING: Final = UsageRecord()
