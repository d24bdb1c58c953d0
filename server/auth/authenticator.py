"""From a token to the one who carries it."""

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import UUID

from server.auth import api_keys, sessions
from server.auth.activity import Activity
from server.auth.principal import CredentialKind, Principal, Scope
from server.auth.revocations import API_KEY_EXPIRED, API_KEY_REVOKED, SESSION_ENDED
from server.auth.tokens import TokenKind, digest_of, kind_of
from server.database import Database, DatabaseUnavailable
from server.errors import Unauthenticated

_REFUSED = "The credential is unknown, expired or revoked."
#: Every request waits for this answer first, and has a deadline of its own.
_ANSWER_S = 5.0


class Authenticator:
    """Asks the database at each request, so that what was revoked is refused at once everywhere."""

    def __init__(self, db: Database, activity: Activity, *, session_idle_s: float) -> None:
        self._db = db
        self._activity = activity
        self._session_idle_s = session_idle_s

    async def authenticate(self, token: str) -> Principal:
        """Return who carries the token, a session's or an API key's, and note that it was used.

        Raises:
            Unauthenticated: it is malformed (the database is not asked), unknown, expired or revoked.
            DatabaseUnavailable: the database does not say.
        """
        find = self._find_by_session if kind_of(token) is TokenKind.SESSION else self._find_by_api_key
        try:
            async with asyncio.timeout(_ANSWER_S):
                principal = await find(digest_of(token))
        except TimeoutError as error:
            raise DatabaseUnavailable from error
        if principal is None:
            raise Unauthenticated(_REFUSED)
        self._activity.note(principal)
        return principal

    async def verify(self, principal: Principal) -> None:
        """Pass if the principal's credential still holds.

        Raises:
            Unauthenticated: it has ended since.
        """
        if await self.find_ended([principal]):
            raise Unauthenticated(_REFUSED)

    async def find_ended(self, principals: Collection[Principal]) -> dict[UUID, str]:
        """Return those credentials that no longer hold, by id, and why; one question for all of them."""
        ids: dict[CredentialKind, list[UUID]] = {kind: [] for kind in CredentialKind}
        for principal in principals:
            ids[principal.kind].append(principal.credential_id)
        rows = await self._db.fetch(
            f"SELECT id, {sessions.IS_LIVE} AS is_live FROM sessions "  # noqa: S608 - constants
            f"WHERE id = ANY({{}}::uuid[]) UNION ALL SELECT id, {api_keys.IS_LIVE} FROM api_keys "
            "WHERE id = ANY({}::uuid[]) AND revoked_at IS NULL",
            self._session_idle_s,
            ids[CredentialKind.SESSION],
            ids[CredentialKind.API_KEY],
        )
        is_live = {row["id"]: row["is_live"] for row in rows}
        return {
            principal.credential_id: _why_ended(principal, is_known=principal.credential_id in is_live)
            for principal in principals
            if not is_live.get(principal.credential_id)
        }

    async def _find_by_session(self, digest: bytes) -> Principal | None:
        row = await self._db.fetch_one(
            f"SELECT id, user_id FROM sessions WHERE token_digest = {{}} AND {sessions.IS_LIVE}",  # noqa: S608 - constants
            digest,
            self._session_idle_s,
        )
        return None if row is None else _principal(row, CredentialKind.SESSION, list(Scope))

    async def _find_by_api_key(self, digest: bytes) -> Principal | None:
        row = await self._db.fetch_one(
            f"SELECT id, user_id, scopes FROM api_keys WHERE secret_digest = {{}} AND {api_keys.IS_LIVE}",  # noqa: S608 - constants
            digest,
        )
        return None if row is None else _principal(row, CredentialKind.API_KEY, row["scopes"])


def _why_ended(principal: Principal, *, is_known: bool) -> str:
    if principal.kind is CredentialKind.SESSION:
        return SESSION_ENDED
    # A key that was revoked, or went with its user, is not among those asked for.
    return API_KEY_EXPIRED if is_known else API_KEY_REVOKED


def _principal(row: dict[str, Any], kind: CredentialKind, scopes: Collection[str]) -> Principal:
    return Principal(
        user_id=row["user_id"],
        credential_id=row["id"],
        kind=kind,
        scopes=frozenset(Scope(scope) for scope in scopes),
    )
