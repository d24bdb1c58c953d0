"""Objects that nothing needs any more: of deleted data sets and models, and of uploads looked at."""

import logging
from typing import Final
from uuid import UUID

from bus.errors import ObjectStoreError
from bus.objects import ObjectStore
from server.database import Database
from server.repeating import Repeating
from server.uploads import Uploads

_logger = logging.getLogger(__name__)

_EVERY_S: Final = 30.0
_FIRST_ID: Final = UUID(int=0)

# One at a time: a transaction waits for the object store. What somebody else has in hand is left to them.
_LOOKED_AT = """
SELECT datasets.id, object_key FROM datasets LEFT JOIN jobs ON jobs.id = datasets.job_id
WHERE object_key IS NOT NULL AND datasets.id > {} AND (status <> 'VALIDATING'
    OR jobs.id IS NULL OR jobs.state IN ('SUCCEEDED', 'FAILED', 'CANCELLED'))
ORDER BY datasets.id LIMIT 1 FOR UPDATE OF datasets SKIP LOCKED
"""
# A worker that still looks at a data set writes into its folder.
_DELETED_DATASETS = """
SELECT datasets.id FROM datasets LEFT JOIN jobs ON jobs.id = datasets.job_id
WHERE deleted_at IS NOT NULL AND emptied_at IS NULL AND datasets.id > {}
    AND (jobs.id IS NULL OR jobs.state IN ('SUCCEEDED', 'FAILED', 'CANCELLED'))
ORDER BY datasets.id LIMIT 1 FOR UPDATE OF datasets SKIP LOCKED
"""
_DELETED_MODELS = """
SELECT id FROM models WHERE deleted_at IS NOT NULL AND emptied_at IS NULL AND id > {}
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
"""


class Leftovers:
    """Sweeps them up, in every server at once without harm."""

    def __init__(self, db: Database, objects: ObjectStore, uploads: Uploads) -> None:
        self._db = db
        self._objects = objects
        self._uploads = uploads
        self._loop = Repeating(self.sweep, name="leftovers sweep", every_s=_EVERY_S)

    async def start(self) -> None:
        """Sweep now and from now on."""
        self._loop.start()

    async def close(self) -> None:
        """Finish what is in hand."""
        await self._loop.close()

    async def sweep(self) -> None:
        """Delete everything that is left over now."""
        last: UUID | None = _FIRST_ID
        while last is not None:
            last = await self._release_next(last)
        for table, statement in (("datasets", _DELETED_DATASETS), ("models", _DELETED_MODELS)):
            last = _FIRST_ID
            while last is not None:
                last = await self._empty_next(table, statement, last)

    async def _release_next(self, after: UUID) -> UUID | None:
        """Let go of an upload that has been looked at: its bytes go if its file has been deleted."""
        async with self._db.transaction():
            row = await self._db.fetch_one(_LOOKED_AT, after)
            if row is None:
                return None
            found: UUID = row["id"]
            try:
                async with self._db.transaction():
                    await self._db.execute("UPDATE datasets SET object_key = NULL WHERE id = {}", found)
                    await self._uploads.drop_if_unused(row["object_key"])
            except ObjectStoreError as error:
                _logger.warning("the upload behind data set %s stays for now: %s", found, error)
        return found

    async def _empty_next(self, table: str, statement: str, after: UUID) -> UUID | None:
        async with self._db.transaction():
            row = await self._db.fetch_one(statement, after)
            if row is None:
                return None
            found: UUID = row["id"]
            try:
                await self._objects.delete_below(f"{table}/{found}")
            except ObjectStoreError as error:
                _logger.warning("what is in %s/%s stays for now: %s", table, found, error)
                return found
            await self._db.execute(
                f"UPDATE {table} SET emptied_at = now() WHERE id = {{}}",  # noqa: S608 - SQL of ours
                found,
            )
        return found
