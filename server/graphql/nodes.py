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
from server.graphql.types.files import File
from server.graphql.types.jobs import EmbeddingJob
from server.graphql.types.node import Node
from server.graphql.types.pipelines import Pipeline


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


_KINDS = {
    "User": _Kind((), _user),
    "Session": _Kind((Scope.READ,), _session),
    "ApiKey": _Kind((Scope.READ,), _api_key),
    "File": _Kind((Scope.READ, Scope.EMBED, Scope.TRAIN), _file),
    "Pipeline": _Kind((), _pipeline),
    "EmbeddingJob": _Kind((Scope.READ, Scope.EMBED), _embedding_job),
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
