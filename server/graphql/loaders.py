"""Look-ups of one operation, gathered while its resolvers run side by side and remembered until its end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar, cast
from uuid import UUID

from strawberry.dataloader import DataLoader

from server.auth.principal import Principal
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

K = TypeVar("K")
T = TypeVar("T")


class Loaders:
    """One loader for each kind of node. All of them find what is the principal's own and nothing else."""

    def __init__(self, services: Services, principal: Principal | None) -> None:
        self._services = services
        self._principal = principal
        self._loaders: dict[str, DataLoader[object, object]] = {}

    async def user(self, user_id: UUID) -> UserRecord | None:
        """Find the principal's own account."""
        if self._principal is None or user_id != self._principal.user_id:
            return None
        return await self._load("user", self._services.accounts.get, user_id)

    async def session(self, session_id: UUID) -> SessionRecord | None:
        """Find a session that has not ended."""
        return await self._load_own("session", self._services.sessions.get, session_id)

    async def api_key(self, key_id: UUID) -> ApiKeyRecord | None:
        """Find an API key, revoked or not."""
        return await self._load_own("api_key", self._services.api_keys.get, key_id)

    async def file(self, file_id: UUID) -> FileRecord | None:
        """Find a file that has not been deleted."""
        return await self._load_own("file", self._services.uploads.get, file_id)

    async def embedding_job(self, job_id: UUID) -> EmbeddingJobRecord | None:
        """Find an embedding job."""
        return await self._load_own("embedding_job", self._services.embedding_jobs.get, job_id)

    async def pipeline(self, pipeline_id: UUID) -> PipelineRecord | None:
        """Find a pipeline."""
        return await self._load("pipeline", self._services.pipelines.get_by_id, pipeline_id)

    async def pipeline_named(self, name: str) -> PipelineRecord | None:
        """Find a pipeline by its name."""
        return await self._load("pipeline_named", self._services.pipelines.get, name)

    async def _load_own(
        self, kind: str, get: Callable[[UUID, UUID], Awaitable[T]], object_id: UUID
    ) -> T | None:
        if self._principal is None:
            return None
        return await self._load(kind, partial(get, self._principal.user_id), object_id)

    async def _load(self, kind: str, get: Callable[[K], Awaitable[T]], key: K) -> T | None:
        loader = self._loaders.get(kind)
        if loader is None:
            loader = self._loaders[kind] = DataLoader(load_fn=partial(_get_each, get))
        return cast("T | None", await loader.load(key))


async def _get_each(get: Callable[[K], Awaitable[T]], keys: Sequence[K]) -> list[T | None]:
    return await asyncio.gather(*(_find(get, key) for key in keys))


async def _find(get: Callable[[K], Awaitable[T]], key: K) -> T | None:
    try:
        return await get(key)
    except NotFound:
        return None
