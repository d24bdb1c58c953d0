"""Trained models: their cards, their files, and how they go."""

from collections.abc import AsyncIterator, Collection
from typing import Any
from uuid import UUID

from bus.errors import ObjectNotFound
from bus.objects import ObjectStore
from server.auth.principal import Principal, Scope
from server.database import Database
from server.errors import Conflict, NotFound
from server.model_rows import (
    MODEL_COLUMNS,
    MODELS,
    OF_USER,
    find_model,
    lock_model,
    model_record,
    stored_files,
)
from server.object_access import reaching_objects
from server.paging import PageQuery, page
from server.pipelines import Pipelines
from server.records import Page, PageRequest
from server.training_records import ModelRecord
from server.zip_stream import ZipEntry, zip_stream

#: The model card, among the files of an encoder.
_CARD = "encoder/README.md"
#: What only our workers read.
_NOT_SHOWN = "owner.json"

_IN_USE = """
SELECT 1 AS found FROM training_jobs JOIN jobs ON jobs.id = training_jobs.job_id
WHERE jobs.user_id = {} AND training_jobs.parent_id = {} AND jobs.state IN ('QUEUED', 'RUNNING', 'CANCELLING')
UNION ALL
SELECT 1 FROM generation_jobs JOIN jobs ON jobs.id = generation_jobs.job_id
WHERE generation_jobs.model_id = {} AND jobs.state IN ('QUEUED', 'RUNNING', 'CANCELLING')
UNION ALL
SELECT 1 FROM embedding_jobs JOIN jobs ON jobs.id = embedding_jobs.job_id
WHERE jobs.user_id = {} AND embedding_jobs.model_id = {} AND jobs.state IN ('QUEUED', 'RUNNING', 'CANCELLING')
LIMIT 1
"""


class Models:
    """Finds, delivers and deletes models; what was deleted is emptied by `server.leftovers`."""

    def __init__(self, db: Database, objects: ObjectStore, pipelines: Pipelines) -> None:
        self._db = db
        self._objects = objects
        self._pipelines = pipelines

    async def get(self, user_id: UUID, model_id: UUID) -> ModelRecord:
        """Return one model.

        Raises:
            NotFound: no such model, or somebody else's (path ``model_id``).
        """
        return self._record(await self._row(user_id, model_id))

    async def find_many(self, user_id: UUID, ids: Collection[UUID]) -> list[ModelRecord]:
        """Return those of the models that there are and that are the user's, in any order."""
        rows = await self._db.fetch(
            f"SELECT {MODEL_COLUMNS} FROM {MODELS}"  # noqa: S608 - SQL of ours
            f" WHERE {OF_USER} AND models.id = ANY({{}}::uuid[])",
            user_id,
            list(ids),
        )
        return [self._record(row) for row in rows]

    async def page(
        self, user_id: UUID, request: PageRequest, *, dataset: UUID | None = None
    ) -> Page[ModelRecord]:
        """Return some of a user's models, newest first; only those trained on ``dataset`` if one is given.

        Raises:
            InvalidInput: see ``server.paging.keyset``.
        """
        query = PageQuery(
            table=MODELS,
            columns=MODEL_COLUMNS,
            id_column="models.id",
            where=OF_USER if dataset is None else f"{OF_USER} AND models.dataset_id = {{}}",
            args=(user_id,) if dataset is None else (user_id, dataset),
        )
        return await page(self._db, query, request, self._record)

    async def card(self, user_id: UUID, model_id: UUID) -> bytes:
        """Return the model card, Markdown in UTF-8.

        Raises:
            NotFound: no such model, or somebody else's (path ``model_id``).
        """
        stored = stored_files(await self._row(user_id, model_id))
        try:
            with reaching_objects():
                return await self._objects.get(f"{stored.prefix}/{_CARD}")
        except ObjectNotFound as error:
            raise NotFound("The model has no card.", path=("model_id",)) from error

    async def download(self, user_id: UUID, model_id: UUID) -> AsyncIterator[bytes]:
        """Return all files of a model as one ZIP file, by the chunk.

        Raises:
            NotFound: no such model, or somebody else's (path ``model_id``).
        """
        row = await self._row(user_id, model_id)
        stored = stored_files(row)
        return zip_stream(
            ZipEntry(name=file.name, at=row["created_at"], chunks=self._read(f"{stored.prefix}/{file.name}"))
            for file in stored.files
            if file.name != _NOT_SHOWN
        )

    async def delete(self, principal: Principal, model_id: UUID) -> ModelRecord:
        """Delete a model with its files.

        Raises:
            Forbidden: the credential lacks the scope TRAIN.
            NotFound: no such model, or somebody else's (path ``model_id``).
            Conflict: it is deployed, or a job that has not ended needs it.
        """
        principal.require(Scope.TRAIN)
        user_id = principal.user_id
        async with self._db.transaction():
            # Against a deployment, and against jobs that begin with it, until this is decided.
            await lock_model(self._db, user_id, model_id)
            row = await self._row(user_id, model_id)
            if row["deployment_id"] is not None:
                raise Conflict("The model is deployed. Retire it first.", path=("model_id",))
            if await self._db.fetch_one(_IN_USE, user_id, model_id, model_id, user_id, model_id) is not None:
                raise Conflict("A job that has not ended needs the model.", path=("model_id",))
            await self._db.execute("UPDATE models SET deleted_at = now() WHERE id = {}", model_id)
        return self._record(row)

    async def _row(self, user_id: UUID, model_id: UUID) -> dict[str, Any]:
        row = await find_model(self._db, user_id, model_id)
        if row is None:
            raise NotFound("There is no such model.", path=("model_id",))
        return row

    async def _read(self, key: str) -> AsyncIterator[bytes]:
        with reaching_objects():
            async for chunk in self._objects.stream(key):
                yield chunk

    def _record(self, row: dict[str, Any]) -> ModelRecord:
        return model_record(row, pool=self._pipelines.find_models_pool())
