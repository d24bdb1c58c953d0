"""The history of a job as a stream: what has happened, then what happens, until the job has ended.

Subscribers of one job in one process who are at the same place share what is read for them.
"""

from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import msgspec

from bus.errors import ObjectNotFound
from bus.objects import ObjectStore
from bus.port import Bus
from server.database import Database
from server.errors import InvalidInput, NotFound
from server.event_records import EventRow, expand, is_large
from server.job_cursors import Position, decode_cursor
from server.job_rows import EMBEDDING
from server.nudges import Nudges
from server.records import JobEventRecord, JobState
from server.shared_reading import SharedReads

#: Rows read at once; their vectors are read one row at a time, when the consumer has asked for them.
_ROWS = 16

# One statement, so that the rows and how far they go are of one moment.
_PAGE = """
SELECT jobs.state, jobs.last_seq, page.* FROM jobs LEFT JOIN LATERAL (
    SELECT seq, attempt AS row_attempt, kind AS row_kind, payload, at FROM job_events
    WHERE job_id = jobs.id AND seq >= {} ORDER BY seq LIMIT {}
) AS page ON true WHERE jobs.id = {} ORDER BY page.seq
"""


class _Row(EventRow, kw_only=True):
    """A row that several subscribers may have in hand."""

    #: Kept for the others, where that is little.
    records: list[JobEventRecord] | None = None


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    """The next rows of a job's history, and where the job was when they were read."""

    rows: list[_Row]
    last_seq: int
    is_final: bool


class JobHistory:
    """Reads the rows of ``job_events`` for subscribers, on any replica."""

    def __init__(self, db: Database, bus: Bus, objects: ObjectStore, *, poll_s: float = 2.0) -> None:
        self._db = db
        self._objects = objects
        self._nudges = Nudges(db, bus, poll_s=poll_s)
        #: By job and first row.
        self._pages: SharedReads[tuple[UUID, int], _Page | None] = SharedReads()
        #: By job and row, which never changes.
        self._expansions: SharedReads[tuple[UUID, int], list[JobEventRecord]] = SharedReads()

    @property
    def is_idle(self) -> bool:
        """Whether nobody subscribes here, and nothing is held for anybody."""
        return self._nudges.is_idle and self._pages.is_idle and self._expansions.is_idle

    async def has_more(self, user_id: UUID, job_id: UUID, after: str | None, kind: str = EMBEDDING) -> bool:
        """Whether `subscribe` would yield anything: False once the job has ended and all was read.

        Raises:
            NotFound: no such job of this kind, or somebody else's.
            InvalidInput: ``after`` is no cursor of this job (path ``after``).
        """
        job, position = await self._start(user_id, job_id, after, kind)
        return not JobState(job["state"]).is_final or position.seq < job["last_seq"]

    async def subscribe(
        self, user_id: UUID, job_id: UUID, after: str | None = None, kind: str = EMBEDDING
    ) -> AsyncGenerator[JobEventRecord, None]:
        """Yield the job's records after the cursor, each exactly once, and end when the job has ended.

        Nothing is read ahead of the consumer but the references of a few rows and the vectors of one
        chunk. Leaving the iteration, or being cancelled in it, releases everything.

        Raises:
            NotFound: no such job of this kind, or somebody else's; or it has ended and is deleted at this
                moment.
            InvalidInput: ``after`` is no cursor of this job (path ``after``).
        """
        _, start = await self._start(user_id, job_id, after, kind)
        seq = start.seq
        async with self._nudges.watching(job_id) as bell:
            while True:
                # Before the page is read: what comes after it rings again.
                bell.clear()
                page = await self._page(job_id, seq)
                if page is None:
                    # An end without a word would look like the end of the job.
                    raise _no_such_job()
                for row in page.rows:
                    records = await self._read(job_id, row)
                    for record in records[start.offset + 1 :] if row.seq == start.seq else records:
                        yield record
                    seq = row.seq + 1
                if seq > page.last_seq:
                    if page.is_final:
                        return
                    await bell.wait()

    async def _start(
        self, user_id: UUID, job_id: UUID, after: str | None, kind: str
    ) -> tuple[dict[str, Any], Position]:
        job = await self._db.fetch_one(
            "SELECT state, last_seq FROM jobs WHERE id = {} AND user_id = {} AND kind = {}",
            job_id,
            user_id,
            kind,
        )
        if job is None:
            raise _no_such_job()
        position = decode_cursor(after)
        if position.seq > job["last_seq"]:
            raise InvalidInput("This is a cursor of another job.", path=("after",))
        return job, position

    async def _page(self, job_id: UUID, seq: int) -> _Page | None:
        async def read() -> _Page | None:
            rows = await self._db.fetch(_PAGE, seq, _ROWS, job_id)
            if not rows:
                return None
            return _Page(
                rows=[_row(row) for row in rows if row["seq"] is not None],
                last_seq=rows[0]["last_seq"],
                is_final=JobState(rows[0]["state"]).is_final,
            )

        return await self._pages.read((job_id, seq), read, is_fresh=True)

    async def _read(self, job_id: UUID, row: _Row) -> list[JobEventRecord]:
        if row.records is not None:
            return row.records
        try:
            records = await self._expansions.read(
                (job_id, row.seq), lambda: expand(self._objects, job_id, row), is_fresh=False
            )
        except ObjectNotFound as error:
            if await self._is_going(job_id):
                raise _no_such_job() from error
            raise
        if not is_large(row):
            row.records = records
        return records

    async def _is_going(self, job_id: UUID) -> bool:
        """Whether a job is deleted, or is at this moment: its vectors go first, while its row is locked."""
        job = await self._db.fetch_one("SELECT state FROM jobs WHERE id = {}", job_id)
        if job is None or not JobState(job["state"]).is_final:
            return job is None
        statement = "SELECT id FROM jobs WHERE id = {} FOR KEY SHARE SKIP LOCKED"
        return await self._db.fetch_one(statement, job_id) is None


def _row(row: dict[str, Any]) -> _Row:
    return _Row(
        seq=row["seq"],
        attempt=row["row_attempt"],
        kind=row["row_kind"],
        payload=row["payload"],
        at=row["at"],
    )


def _no_such_job() -> NotFound:
    return NotFound("There is no such job.", path=("job_id",))
