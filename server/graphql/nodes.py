"""From an id to its node, whatever its type. This is the one way in, so ownership is checked here."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import msgspec

from server.auth.principal import Principal, Scope
from server.graphql import ids
from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.loaders import Loaders
from server.graphql.types.accounts import ApiKey, Session, User
from server.graphql.types.datasets import Dataset
from server.graphql.types.files import File
from server.graphql.types.generations import GenerationJob
from server.graphql.types.jobs import EmbeddingJob
from server.graphql.types.node import Node
from server.graphql.types.pipelines import Pipeline
from server.graphql.types.training import Model, TrainingJob


class _Kind(msgspec.Struct, frozen=True):
    scopes: tuple[Scope, ...]
    find: Callable[[Loaders, UUID, Principal], Awaitable[Node | None]]


async def _user(loaders: Loaders, user_id: UUID, _principal: Principal) -> User | None:
    record = await loaders.user(user_id)
    return User.of(record) if record else None


async def _session(loaders: Loaders, session_id: UUID, principal: Principal) -> Session | None:
    record = await loaders.session(session_id)
    return Session.of(record, principal) if record else None


async def _api_key(loaders: Loaders, key_id: UUID, _principal: Principal) -> ApiKey | None:
    record = await loaders.api_key(key_id)
    return ApiKey.of(record) if record else None


async def _file(loaders: Loaders, file_id: UUID, _principal: Principal) -> File | None:
    record = await loaders.file(file_id)
    return File.of(record) if record else None


async def _pipeline(loaders: Loaders, pipeline_id: UUID, _principal: Principal) -> Pipeline | None:
    record = await loaders.pipeline(pipeline_id)
    return Pipeline.of(record) if record else None


async def _embedding_job(loaders: Loaders, job_id: UUID, _principal: Principal) -> EmbeddingJob | None:
    record = await loaders.embedding_job(job_id)
    return EmbeddingJob.of(record) if record else None


async def _dataset(loaders: Loaders, dataset_id: UUID, _principal: Principal) -> Dataset | None:
    record = await loaders.dataset(dataset_id)
    return Dataset.of(record) if record else None


async def _training_job(loaders: Loaders, job_id: UUID, _principal: Principal) -> TrainingJob | None:
    record = await loaders.training_job(job_id)
    return TrainingJob.of(record) if record else None


async def _model(loaders: Loaders, model_id: UUID, _principal: Principal) -> Model | None:
    record = await loaders.model(model_id)
    return Model.of(record) if record else None


async def _generation(loaders: Loaders, job_id: UUID, _principal: Principal) -> GenerationJob | None:
    record = await loaders.generation(job_id)
    return GenerationJob.of(record) if record else None


_TRAINING = (Scope.READ, Scope.TRAIN)
_KINDS = {
    "User": _Kind((), _user),
    "Session": _Kind((Scope.READ,), _session),
    "ApiKey": _Kind((Scope.READ,), _api_key),
    "File": _Kind((Scope.READ, Scope.EMBED, Scope.TRAIN), _file),
    "Pipeline": _Kind((), _pipeline),
    "EmbeddingJob": _Kind((Scope.READ, Scope.EMBED), _embedding_job),
    "Dataset": _Kind(_TRAINING, _dataset),
    "TrainingJob": _Kind(_TRAINING, _training_job),
    "Model": _Kind(_TRAINING, _model),
    "GenerationJob": _Kind(_TRAINING, _generation),
}


async def find_node(info: Info, global_id: str, path: tuple[str, ...]) -> Node | None:
    """Find what an id names, if it is the caller's; somebody else's is as if it were not there.

    Raises:
        Unauthenticated: nobody has signed in.
        Forbidden: the credential may not read such things.
        InvalidInput: it is no id.
    """
    principal = require_principal(info)
    decoded = ids.decode(global_id, path)
    kind = _KINDS.get(decoded.type_name)
    if kind is None:
        return None
    if kind.scopes:
        principal.require(*kind.scopes)
    return await kind.find(info.context.loaders, decoded.id, principal)
