"""The history of a job as a stream: what has happened, then what happens, until the job has ended."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from bus.errors import ObjectNotFound
from bus.objects import ObjectStore
from bus.port import Bus
from server.database import Database
from server.errors import InvalidInput, NotFound
from server.job_cursors import Position, decode_cursor
from server.job_payloads import ChunkEmbedded, StateChanged, decode_payload
from server.job_rows import EMBEDDING, known_code
from server.job_vectors import read_chunk
from server.nudges import Nudges
from server.records import (
    ItemEmbeddedRecord,
    ItemFailedRecord,
    JobEventRecord,
    JobState,
    JobStateChangedRecord,
)

#: Rows read at once; their vectors are read one row at a time, when the consumer has asked for them.
_ROWS = 16


class _Row(msgspec.Struct, frozen=True):
    """One row of ``job_events`` that is read."""

    seq: int
    attempt: int
    kind: str
    payload: bytes
    at: datetime


class JobHistory:
    """Reads the rows of ``job_events`` for subscribers, on any replica."""

    def __init__(self, db: Database, bus: Bus, objects: ObjectStore, *, poll_s: float = 2.0) -> None:
        self._db = db
        self._objects = objects
        self._nudges = Nudges(db, bus, poll_s=poll_s)

    @property
    def is_idle(self) -> bool:
        """Whether nobody subscribes here, and nothing is held for anybody."""
        return self._nudges.is_idle

    async def has_more(self, user_id: UUID, job_id: UUID, after: str | None) -> bool:
        """Whether `subscribe` would yield anything: False once the job has ended and all was read.

        Raises:
            NotFound: no such job, or somebody else's.
            InvalidInput: ``after`` is no cursor of this job (path ``after``).
        """
        job, position = await self._start(user_id, job_id, after)
        return not JobState(job["state"]).is_final or position.seq < job["last_seq"]

    async def subscribe(
        self, user_id: UUID, job_id: UUID, after: str | None = None
    ) -> AsyncGenerator[JobEventRecord, None]:
        """Yield the job's records after the cursor, each exactly once, and end when the job has ended.

        Nothing is read ahead of the consumer but the references of a few rows and the vectors of one
        chunk. Leaving the iteration, or being cancelled in it, releases everything.

        Raises:
            NotFound: no such job, or somebody else's; or it has ended and is deleted at this moment.
            InvalidInput: ``after`` is no cursor of this job (path ``after``).
        """
        _, start = await self._start(user_id, job_id, after)
        seq = start.seq
        async with self._nudges.watching(job_id) as bell:
            while True:
                bell.clear()
                rows = await self._rows(job_id, seq)
                for row in rows:
                    for record in await self._read(job_id, row, start):
                        yield record
                    seq = row.seq + 1
                if rows:
                    continue
                job = await self._db.fetch_one("SELECT state, last_seq FROM jobs WHERE id = {}", job_id)
                if job is None:
                    # An end without a word would look like the end of the job.
                    raise _no_such_job()
                if job["last_seq"] < seq:
                    if JobState(job["state"]).is_final:
                        return
                    await bell.wait()

    async def _start(self, user_id: UUID, job_id: UUID, after: str | None) -> tuple[dict[str, Any], Position]:
        job = await self._db.fetch_one(
            "SELECT state, last_seq FROM jobs WHERE id = {} AND user_id = {} AND kind = {}",
            job_id,
            user_id,
            EMBEDDING,
        )
        if job is None:
            raise _no_such_job()
        position = decode_cursor(after)
        if position.seq > job["last_seq"]:
            raise InvalidInput("This is a cursor of another job.", path=("after",))
        return job, position

    async def _rows(self, job_id: UUID, seq: int) -> list[_Row]:
        rows = await self._db.fetch(
            "SELECT seq, attempt, kind, payload, at FROM job_events"
            " WHERE job_id = {} AND seq >= {} ORDER BY seq LIMIT {}",
            job_id,
            seq,
            _ROWS,
        )
        return [_Row(**row) for row in rows]

    async def _read(self, job_id: UUID, row: _Row, after: Position) -> list[JobEventRecord]:
        try:
            return await self._expand(row, after)
        except ObjectNotFound as error:
            if await self._is_going(job_id):
                raise _no_such_job() from error
            raise

    async def _is_going(self, job_id: UUID) -> bool:
        """Whether a job is deleted, or is at this moment: its vectors go first, while its row is locked."""
        job = await self._db.fetch_one("SELECT state FROM jobs WHERE id = {}", job_id)
        if job is None or not JobState(job["state"]).is_final:
            return job is None
        statement = "SELECT id FROM jobs WHERE id = {} FOR KEY SHARE SKIP LOCKED"
        return await self._db.fetch_one(statement, job_id) is None

    async def _expand(self, row: _Row, after: Position) -> list[JobEventRecord]:
        """Return the records of one row that come after a position."""
        payload = decode_payload(row.kind, row.payload)
        first = after.offset + 1 if row.seq == after.seq else 0
        if isinstance(payload, ChunkEmbedded):
            return await self._items(row, payload, first)
        if isinstance(payload, StateChanged) and first == 0:
            return [
                JobStateChangedRecord(
                    cursor=Position(row.seq, 0).encode(),
                    at=row.at,
                    attempt=row.attempt,
                    state=payload.state,
                    reason=payload.reason,
                )
            ]
        return []

    async def _items(self, row: _Row, chunk: ChunkEmbedded, first: int) -> list[JobEventRecord]:
        vectors = await read_chunk(self._objects, chunk)
        failures = {failure.index: failure for failure in chunk.failures}
        records: list[JobEventRecord] = []
        for offset in range(first, chunk.count):
            index = chunk.first_index + offset
            cursor = Position(row.seq, offset).encode()
            failure = failures.get(index)
            records.append(
                ItemEmbeddedRecord(
                    cursor=cursor, at=row.at, attempt=row.attempt, index=index, vector=vectors[offset]
                )
                if failure is None
                else ItemFailedRecord(
                    cursor=cursor,
                    at=row.at,
                    attempt=row.attempt,
                    index=index,
                    code=known_code(failure.code),
                    message=failure.message,
                )
            )
        return records


def _no_such_job() -> NotFound:
    return NotFound("There is no such job.", path=("job_id",))
