"""API keys: for programs, with a name, scopes and perhaps an end."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from bus.port import Bus
from server.auth.fields import check_label
from server.auth.principal import Principal, Scope
from server.auth.revocations import API_KEY_REVOKED, announce
from server.auth.tokens import TokenKind, new_token
from server.database import Database
from server.errors import Conflict, InvalidInput, NotFound
from server.ids import new_id
from server.paging import PageQuery, page
from server.records import ApiKeyRecord, Page, PageRequest

_COLUMNS = "id, user_id, name, prefix, scopes, created_at, expires_at, last_used_at, revoked_at"
IS_LIVE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"

_MAX_NAME = 100
MAX_LIVE_KEYS = 200


class NewApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key and, this once, its secret."""

    secret: str
    api_key: ApiKeyRecord

    def __repr__(self) -> str:
        return f"NewApiKey(api_key={self.api_key.id})"


class ApiKeys:
    """Makes, lists and revokes API keys."""

    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._bus = bus

    async def create(
        self,
        principal: Principal,
        *,
        name: str,
        scopes: Collection[Scope],
        expires_at: datetime | None = None,
    ) -> NewApiKey:
        """Make a key for the principal's user.

        Raises:
            Forbidden: the caller came with an API key that lacks ADMIN.
            InvalidInput: the name, the scopes or the end can't be.
            Conflict: the user has MAX_LIVE_KEYS keys.
        """
        principal.require(Scope.ADMIN)
        check_label(name, field="name", max_characters=_MAX_NAME)
        if not scopes:
            raise InvalidInput("A key needs at least one scope.", path=("scopes",))
        if expires_at is not None:
            _check_end(expires_at)
        token = new_token(TokenKind.API_KEY)
        row = await self._db.fetch_one(
            "INSERT INTO api_keys (id, user_id, name, prefix, secret_digest, scopes, expires_at) "  # noqa: S608 - constants
            "SELECT {}::uuid, {}::uuid, {}::text, {}::text, {}::bytea, {}::text[], {}::timestamptz "
            f"WHERE (SELECT count(*) FROM api_keys WHERE user_id = {{}} AND {IS_LIVE}) < {{}} "
            f"RETURNING {_COLUMNS}",
            new_id(),
            principal.user_id,
            name,
            token.prefix,
            token.digest,
            sorted(scope.value for scope in set(scopes)),
            expires_at,
            principal.user_id,
            MAX_LIVE_KEYS,
        )
        if row is None:
            raise Conflict(f"You have {MAX_LIVE_KEYS} keys; revoke one first.")
        return NewApiKey(secret=token.secret, api_key=_record(row))

    async def get(self, user_id: UUID, key_id: UUID) -> ApiKeyRecord:
        """Return one key of a user, revoked or not.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        row = await self._db.fetch_one(
            f"SELECT {_COLUMNS} FROM api_keys WHERE id = {{}} AND user_id = {{}}",  # noqa: S608 - constants
            key_id,
            user_id,
        )
        if row is None:
            raise NotFound("There is no such API key.")
        return _record(row)

    async def find_many(self, user_id: UUID, ids: Collection[UUID]) -> list[ApiKeyRecord]:
        """Return those of the keys that there are and that are the user's, in any order."""
        rows = await self._db.fetch(
            f"SELECT {_COLUMNS} FROM api_keys WHERE id = ANY({{}}::uuid[]) AND user_id = {{}}",  # noqa: S608 - constants
            list(ids),
            user_id,
        )
        return [_record(row) for row in rows]

    async def page(self, user_id: UUID, request: PageRequest) -> Page[ApiKeyRecord]:
        """Return keys of a user, revoked ones too, newest first."""
        query = PageQuery(table="api_keys", where="user_id = {}", args=(user_id,), columns=_COLUMNS)
        return await page(self._db, query, request, _record)

    async def revoke(self, principal: Principal, key_id: UUID) -> ApiKeyRecord:
        """Revoke a key: refused from now on, its sockets closed within a second.

        A key may always revoke itself. Revoking twice changes nothing.

        Raises:
            Forbidden: the caller came with another API key that lacks ADMIN.
            NotFound: there is no such key, or it is somebody else's.
        """
        if key_id != principal.credential_id:
            principal.require(Scope.ADMIN)
        row = await self._db.fetch_one(
            "UPDATE api_keys SET revoked_at = now() "  # noqa: S608 - constants
            f"WHERE id = {{}} AND user_id = {{}} AND revoked_at IS NULL RETURNING {_COLUMNS}",
            key_id,
            principal.user_id,
        )
        if row is None:
            return await self.get(principal.user_id, key_id)
        await announce(self._bus, [key_id], API_KEY_REVOKED)
        return _record(row)


def _check_end(expires_at: datetime) -> None:
    if expires_at.tzinfo is None:
        raise InvalidInput("`expires_at` needs a time zone.", path=("expires_at",))
    if expires_at <= datetime.now(UTC):
        raise InvalidInput("`expires_at` has passed.", path=("expires_at",))


def _record(row: dict[str, Any]) -> ApiKeyRecord:
    return ApiKeyRecord(**{**row, "scopes": frozenset(Scope(scope) for scope in row["scopes"])})
