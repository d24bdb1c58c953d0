"""Look-ups of one operation, gathered while its resolvers run side by side and remembered until its end."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import UUID

from strawberry.dataloader import DataLoader

from server.auth.principal import Principal
from server.deployments import is_model_name
from server.errors import NotFound
from server.records import (
    ApiKeyRecord,
    EmbeddingJobRecord,
    FileRecord,
    PipelineRecord,
    SessionRecord,
    UserRecord,
)
from server.services import Services
from server.training_records import (
    DatasetRecord,
    GenerationJobRecord,
    ModelRecord,
    TrainingJobRecord,
)


class Identified(Protocol):
    """A record with an id."""

    @property
    def id(self) -> UUID:
        """The id of the object."""


K = TypeVar("K")
T = TypeVar("T")
N = TypeVar("N", bound=Identified)
Find = Callable[[Collection[UUID]], Awaitable[list[N]]]
FindOwn = Callable[[UUID, Collection[UUID]], Awaitable[list[N]]]


class Loaders:
    """One loader for each kind of node. All of them find what is the principal's own and nothing else."""

    def __init__(self, services: Services, principal: Principal | None) -> None:
        self._services = services
        self._principal = principal
        self._loaders: dict[str, DataLoader[Any, Any]] = {}

    async def user(self, user_id: UUID) -> UserRecord | None:
        """Find the principal's own account."""
        if self._principal is None or user_id != self._principal.user_id:
            return None
        return await self._load("user", partial(_each, self._services.accounts.get), user_id)

    async def session(self, session_id: UUID) -> SessionRecord | None:
        """Find a session that has not ended."""
        return await self._load_own("session", self._services.sessions.find_many, session_id)

    async def api_key(self, key_id: UUID) -> ApiKeyRecord | None:
        """Find an API key, revoked or not."""
        return await self._load_own("api_key", self._services.api_keys.find_many, key_id)

    async def file(self, file_id: UUID) -> FileRecord | None:
        """Find a file that has not been deleted."""
        return await self._load_own("file", self._services.uploads.find_many, file_id)

    async def embedding_job(self, job_id: UUID) -> EmbeddingJobRecord | None:
        """Find an embedding job."""
        return await self._load_own("embedding_job", self._services.embedding_jobs.find_many, job_id)

    async def dataset(self, dataset_id: UUID) -> DatasetRecord | None:
        """Find a data set."""
        return await self._load_own("dataset", self._services.datasets.find_many, dataset_id)

    async def dataset_even_deleted(self, dataset_id: UUID) -> DatasetRecord | None:
        """Find a data set that is or was there, for what was made of it."""
        find = self._services.datasets.find_even_deleted
        return await self._load_own("dataset_even_deleted", find, dataset_id)

    async def training_job(self, job_id: UUID) -> TrainingJobRecord | None:
        """Find a training."""
        return await self._load_own("training_job", self._services.training_jobs.find_many, job_id)

    async def model(self, model_id: UUID) -> ModelRecord | None:
        """Find a model."""
        return await self._load_own("model", self._services.models.find_many, model_id)

    async def generation(self, job_id: UUID) -> GenerationJobRecord | None:
        """Find a generation."""
        return await self._load_own("generation", self._services.generations.find_many, job_id)

    async def pipeline(self, pipeline_id: UUID) -> PipelineRecord | None:
        """Find a hosted pipeline, or a model that the principal has deployed."""
        hosted = await self._load(
            "pipeline", partial(_in_order, self._services.pipelines.find_many), pipeline_id
        )
        return hosted or await self._load_own("deployment", self._services.deployments.find_many, pipeline_id)

    async def pipeline_named(self, name: str) -> PipelineRecord | None:
        """Find a hosted pipeline by its name; most are known without asking the database.

        A name like ``model/mine`` is the principal's own, or there is nothing of that name.
        """
        if is_model_name(name):
            if self._principal is None:
                return None
            find = partial(self._services.deployments.find_pipeline, self._principal.user_id)
            return await self._load("deployment_named", partial(_each, find), name)
        return await self._load("pipeline_named", partial(_each, self._services.pipelines.get), name)

    async def _load_own(self, kind: str, find_many: FindOwn[N], object_id: UUID) -> N | None:
        if self._principal is None:
            return None
        return await self._load(
            kind, partial(_in_order, partial(find_many, self._principal.user_id)), object_id
        )

    async def _load(
        self, kind: str, load: Callable[[list[K]], Awaitable[list[T | None]]], key: K
    ) -> T | None:
        loader = self._loaders.get(kind)
        if loader is None:
            loader = self._loaders[kind] = DataLoader(load_fn=load)
        found: T | None = await loader.load(key)
        return found


async def _in_order(find_many: Find[N], ids: list[UUID]) -> list[N | None]:
    found = {record.id: record for record in await find_many(ids)}
    return [found.get(object_id) for object_id in ids]


async def _each(get: Callable[[K], Awaitable[T | None]], keys: list[K]) -> list[T | None]:
    return await asyncio.gather(*(_find(get, key) for key in keys))


async def _find(get: Callable[[K], Awaitable[T | None]], key: K) -> T | None:
    try:
        return await get(key)
    except NotFound:
        return None
