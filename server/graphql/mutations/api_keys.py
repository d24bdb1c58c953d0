"""Making and revoking API keys."""

from datetime import datetime
from typing import Annotated

import strawberry

from server.graphql import ids
from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.types.accounts import ApiKey
from server.graphql.types.enums import Scope
from server.graphql.types.errors import Conflict, Forbidden, InvalidInput, NotFound, RateLimited


@strawberry.input(description="A new API key.")
class CreateApiKeyInput:
    """Arguments of createApiKey."""

    name: str = strawberry.field(description="What it is for.")
    scopes: list[Scope] = strawberry.field(description="What it may do: at least one.")
    expires_at: datetime | None = strawberry.field(
        default=None, description="When it stops working by itself; never when left out."
    )


@strawberry.type(description="The new key.")
class CreateApiKeyPayload:
    """Answer of createApiKey."""

    secret: str = strawberry.field(
        description="What to send as Authorization: Bearer. It is shown here once."
    )
    api_key: ApiKey = strawberry.field(description="The key.")


@strawberry.input(description="Which key to revoke.")
class RevokeApiKeyInput:
    """Arguments of revokeApiKey."""

    api_key_id: strawberry.ID = strawberry.field(description="The key.")


@strawberry.type(description="The key is of no use any more.")
class RevokeApiKeyPayload:
    """Answer of revokeApiKey."""

    api_key: ApiKey = strawberry.field(description="The key.")


CreateApiKeyResult = Annotated[
    CreateApiKeyPayload | InvalidInput | Forbidden | Conflict | RateLimited,
    strawberry.union("CreateApiKeyResult", description="A new key, or why there is none."),
]
RevokeApiKeyResult = Annotated[
    RevokeApiKeyPayload | InvalidInput | NotFound | Forbidden,
    strawberry.union("RevokeApiKeyResult", description="The revoked key, or why it is not revoked."),
]


@strawberry.type
class ApiKeyMutations:
    """API keys. An API key needs ADMIN for both."""

    @strawberry.mutation(description="Make an API key. A session may; an API key needs ADMIN.")
    async def create_api_key(
        self,
        info: Info,
        request: Annotated[CreateApiKeyInput, strawberry.argument(name="input", description="The new key.")],
    ) -> CreateApiKeyResult:
        """Make a key."""
        principal = require_principal(info)
        created = await info.context.services.api_keys.create(
            principal,
            name=request.name,
            scopes=request.scopes,
            expires_at=request.expires_at,
        )
        return CreateApiKeyPayload(secret=created.secret, api_key=ApiKey.of(created.api_key))

    @strawberry.mutation(
        description="Revoke an API key; its sockets are closed. A session may; an API key needs ADMIN."
    )
    async def revoke_api_key(
        self,
        info: Info,
        request: Annotated[RevokeApiKeyInput, strawberry.argument(name="input", description="Which key.")],
    ) -> RevokeApiKeyResult:
        """Revoke a key."""
        principal = require_principal(info)
        key_id = ids.decode_as("ApiKey", request.api_key_id, ("api_key_id",))
        return RevokeApiKeyPayload(
            api_key=ApiKey.of(await info.context.services.api_keys.revoke(principal, key_id))
        )
