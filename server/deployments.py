"""Trained models as pipelines, each private to its owner."""

import logging
import re
from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from bus import subjects
from bus.errors import BusError
from bus.messages import PreloadModel
from bus.port import Bus
from server.auth.principal import Principal, Scope
from server.database import Database
from server.errors import InvalidInput, NotFound
from server.ids import new_id
from server.model_rows import (
    DEPLOYMENTS,
    MODEL_COLUMNS,
    MODEL_PREFIX,
    deployed_model,
    find_model,
    lock_model,
    model_record,
    pipeline_record,
)
from server.pipelines import Pipelines, usable
from server.records import Modality, PipelineRecord
from server.training_records import ModelRecord

_logger = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
#: What the workers load models for.
_SERVED: Final = frozenset({Modality.TEXT, Modality.IMAGE})

_UPSERT = """
INSERT INTO deployments AS kept (id, user_id, name, version, model_id) VALUES ({}, {}, {}, 1, {})
ON CONFLICT (user_id, name) DO UPDATE SET
    version = kept.version + 1, model_id = excluded.model_id, deployed_at = now(), retired_at = NULL
WHERE kept.model_id <> excluded.model_id OR kept.retired_at IS NOT NULL
"""


def is_model_name(name: str) -> bool:
    """Whether a pipeline of this name can only be a deployed model."""
    return name.startswith(MODEL_PREFIX)


class Deployments:
    """Deploys and retires models, and finds the pipelines they are.

    A request is answered by the model that its name stood for when it came: another deployment is another
    model id from the next request on, and nothing that runs hears of it.
    """

    def __init__(self, db: Database, bus: Bus, pipelines: Pipelines) -> None:
        self._db = db
        self._bus = bus
        self._pipelines = pipelines

    async def deploy(self, principal: Principal, model_id: UUID, name: str) -> ModelRecord:
        """Let a model answer as ``model/<name>`` from now on.

        A name in use gets a new version; deploying the model it had before rolls back, which is a new
        version, too. A model has one pipeline: under a second name it answers there and no longer under the
        first. What is deployed like this already stays as it is.

        Raises:
            Forbidden: the credential lacks the scope TRAIN.
            InvalidInput: the name can't be one (path ``name``), or nothing can be embedded with the model
                (path ``model_id``).
            NotFound: no such model, or somebody else's (path ``model_id``).
        """
        principal.require(Scope.TRAIN)
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                "A name has 1 to 63 of a-z, 0-9, dot, hyphen and underscore, a letter or digit first.",
                path=("name",),
            )
        async with self._db.transaction():
            row = await self._lock(principal.user_id, model_id)
            if row["modality"] not in _SERVED:
                raise InvalidInput(
                    "The model takes neither texts nor images, and can't be a pipeline.", path=("model_id",)
                )
            # First: a model has one live deployment at any moment, as an index says.
            await self._retire(model_id, but=name)
            await self._db.execute(_UPSERT, new_id(), principal.user_id, name, model_id)
            row = await self._get(principal.user_id, model_id)
        pool = self._pipelines.find_models_pool()
        if pool is not None:
            await self._preload(row, pool)
        return model_record(row, pool=pool)

    async def retire(self, principal: Principal, model_id: UUID) -> ModelRecord:
        """Let a model answer no more; one that is not deployed stays so.

        Raises:
            Forbidden: the credential lacks the scope TRAIN.
            NotFound: no such model, or somebody else's (path ``model_id``).
        """
        principal.require(Scope.TRAIN)
        async with self._db.transaction():
            await self._lock(principal.user_id, model_id)
            await self._retire(model_id)
            row = await self._get(principal.user_id, model_id)
        return model_record(row, pool=self._pipelines.find_models_pool())

    async def find_pipeline(self, user_id: UUID, name: str) -> PipelineRecord | None:
        """Return what the user has, or had, deployed as ``model/<name>``."""
        short = name.removeprefix(MODEL_PREFIX)
        if not is_model_name(name) or not _NAME.fullmatch(short):
            return None
        found = await self._find("deployments.user_id = {} AND deployments.name = {}", user_id, short)
        return found[0] if found else None

    async def require_available(self, user_id: UUID, name: str) -> PipelineRecord:
        """Return a deployed model that can be used now.

        Raises:
            NotFound: the user has never deployed one under this name.
            PipelineUnavailable: it was retired, or no worker takes deployed models now.
        """
        record = await self.find_pipeline(user_id, name)
        if record is None:
            raise NotFound("There is no pipeline of this name.", path=("pipeline",))
        return usable(record)

    async def find_many(self, user_id: UUID, ids: Collection[UUID]) -> list[PipelineRecord]:
        """Return those of the pipelines that are the user's deployed models, in any order."""
        return await self._find(
            "deployments.user_id = {} AND deployments.id = ANY({}::uuid[])", user_id, list(ids)
        )

    async def list_available(self, user_id: UUID) -> list[PipelineRecord]:
        """List the user's deployed models that can be used now, by name."""
        found = await self._find("deployments.user_id = {} AND deployments.retired_at IS NULL", user_id)
        return sorted((record for record in found if record.available), key=lambda record: record.name)

    async def _find(self, where: str, *args: object) -> list[PipelineRecord]:
        rows = await self._db.fetch(
            f"SELECT {MODEL_COLUMNS} FROM {DEPLOYMENTS} WHERE {where}",  # noqa: S608 - SQL of ours
            *args,
        )
        pool = self._pipelines.find_models_pool()
        return [pipeline_record(row, pool=pool) for row in rows]

    async def _lock(self, user_id: UUID, model_id: UUID) -> dict[str, Any]:
        """Lock a user's deployments, so that no two changes wait for each other's rows; then the model."""
        await self._db.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended({}, 0))", f"deployments of {user_id}"
        )
        # Whoever deletes the model waits until it is known whether it is deployed.
        await lock_model(self._db, user_id, model_id)
        return await self._get(user_id, model_id)

    async def _get(self, user_id: UUID, model_id: UUID) -> dict[str, Any]:
        row = await find_model(self._db, user_id, model_id)
        if row is None:
            raise NotFound("There is no such model.", path=("model_id",))
        return row

    async def _retire(self, model_id: UUID, *, but: str | None = None) -> None:
        await self._db.execute(
            "UPDATE deployments SET retired_at = now() WHERE model_id = {} AND retired_at IS NULL"
            " AND name IS DISTINCT FROM {}::text",
            model_id,
            but,
        )

    async def _preload(self, row: dict[str, Any], pool: str) -> None:
        message = PreloadModel(pool=pool, model=deployed_model(row))
        try:
            await self._bus.tell(subjects.MODEL_PRELOAD, message)
        except BusError as error:
            # The first request has it loaded, too.
            _logger.warning("nobody was told to load model %s: %s", row["id"], error)
