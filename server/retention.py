"""What is over goes: ended jobs with all that belongs to them, ended sessions, what was deleted.

A training that has made a model stays with it: the model's history is how it came about. What stays for good
is one row an hour and user in ``usage_hours``, which bills are made of, and API keys,
which their owner sees for as long as there is an account.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from opentelemetry.metrics import Meter

from bus.errors import ObjectStoreError
from bus.objects import ObjectStore
from server.database import Database
from server.ids import model_id_of
from server.lane_rows import GENERATION, TRAINING
from server.records import JobState
from server.repeating import Repeating

_logger = logging.getLogger(__name__)

#: Jobs deleted in one transaction, which waits for the object store.
_BATCH: Final = 16
#: Other rows deleted in one statement.
_ROWS: Final = 1000
_EVERY_S: Final = 600.0
#: Before every job.
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_ID: Final = UUID(int=0)

# The order is by the index that finds them; a job somebody else deletes now is left to them.
_OVER = """
SELECT jobs.id, jobs.kind, jobs.state, jobs.attempt, jobs.finished_at, embedding_jobs.inputs_key
FROM jobs LEFT JOIN embedding_jobs ON embedding_jobs.job_id = jobs.id
WHERE jobs.finished_at < now() - {}::interval AND jobs.state IN ('SUCCEEDED', 'FAILED', 'CANCELLED')
AND NOT EXISTS (SELECT 1 FROM models WHERE models.job_id = jobs.id)
AND (jobs.finished_at, jobs.id) > ({}::timestamptz, {}::uuid)
ORDER BY jobs.finished_at, jobs.id LIMIT {} FOR UPDATE OF jobs SKIP LOCKED
"""

_SESSIONS = """
DELETE FROM sessions WHERE id IN (
    SELECT id FROM sessions WHERE least(ended_at, expires_at) < now() - {}::interval LIMIT {}
) RETURNING id
"""
_FILES = """
DELETE FROM files WHERE id IN (
    SELECT id FROM files WHERE deleted_at < now() - {}::interval LIMIT {}
) RETURNING id
"""


class Retention:
    """Deletes what is older than ``retention_s``, in every server at once without harm."""

    def __init__(self, db: Database, objects: ObjectStore, *, retention_s: float, meter: Meter) -> None:
        self._db = db
        self._objects = objects
        self._age = timedelta(seconds=retention_s)
        # Nothing stays for twice its time, however short that is.
        self._loop = Repeating(self.sweep, name="retention sweep", every_s=min(_EVERY_S, retention_s))
        self._deleted = meter.create_counter(
            "towhee.retention.deleted", description="Rows deleted because their time was over, by table."
        )

    def start(self) -> None:
        """Sweep now and from now on."""
        self._loop.start()

    async def close(self) -> None:
        """Finish the batch in hand."""
        await self._loop.close()

    async def sweep(self) -> None:
        """Delete everything whose time is over now."""
        await self._sweep_jobs()
        for table, statement in (("sessions", _SESSIONS), ("files", _FILES)):
            while gone := await self._db.fetch(statement, self._age, _ROWS):
                self._deleted.add(len(gone), {"table": table})

    async def _sweep_jobs(self) -> None:
        # Past whatever could not be deleted: one job in trouble does not keep the others.
        row: dict[str, Any] | None = None
        is_more = True
        while is_more:
            async with self._db.transaction():
                rows = await self._db.fetch(
                    _OVER,
                    self._age,
                    row["finished_at"] if row else _LONG_AGO,
                    row["id"] if row else _FIRST_ID,
                    _BATCH,
                )
                emptied = [job["id"] for job in rows if await self._empty(job)]
                # Events and rows of the outbox go with their job.
                await self._db.execute("DELETE FROM jobs WHERE id = ANY({}::uuid[])", emptied)
            if emptied:
                self._deleted.add(len(emptied), {"table": "jobs"})
            row = rows[-1] if rows else row
            is_more = len(rows) == _BATCH

    async def _empty(self, job: dict[str, Any]) -> bool:
        """Delete a job's objects, those of overtaken attempts too; return whether none are left.

        Before its rows: after a crash in between the rows still say what is to be deleted.
        """
        below = [f"jobs/{job['id']}", f"results/{job['id']}"]
        if job["kind"] == TRAINING:
            # An attempt may have come as far as this and no further.
            attempts = range(1, job["attempt"] + 1)
            below += [f"models/{model_id_of(job['id'], attempt)}" for attempt in attempts]
        if job["kind"] == GENERATION and job["state"] != JobState.SUCCEEDED:
            # Of one that has succeeded they are files of its owner.
            below.append(f"generated/{job['id']}")
        try:
            if job["inputs_key"] is not None:
                await self._objects.delete(job["inputs_key"])
            for prefix in below:
                await self._objects.delete_below(prefix)
        except ObjectStoreError as error:
            _logger.warning("job %s is over and stays for now: %s", job["id"], error)
            return False
        return True
