"""Log-ins: made with a password, carried by a token, ended by their owner or by time."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

import msgspec

from bus.port import Bus
from server.auth.fields import check_label, clean_header, is_email
from server.auth.passwords import Passwords
from server.auth.revocations import SESSION_ENDED, announce
from server.auth.tokens import TokenKind, new_token
from server.database import Database
from server.errors import Busy, InvalidCredentials, NotFound
from server.ids import new_id
from server.limits import AccountLimits
from server.paging import PageQuery, page
from server.records import Client, Page, PageRequest, SessionRecord, UserRecord

_COLUMNS = "id, user_id, created_at, last_seen_at, expires_at, ip_address, user_agent, device_name"
#: A live session; its one argument is the idle time in seconds.
IS_LIVE = "ended_at IS NULL AND expires_at > now() AND last_seen_at > now() - make_interval(secs => {})"

_MAX_DEVICE_NAME = 100
_MAX_USER_AGENT = 400
_MAX_IP_ADDRESS = 64


class SessionLifetimes(msgspec.Struct, frozen=True, kw_only=True):
    """A session ends ``lifetime_s`` after log-in, and when it was not used for ``idle_s``."""

    lifetime_s: float = 30 * 24 * 3600.0
    idle_s: float = 7 * 24 * 3600.0


class LogIn(msgspec.Struct, frozen=True, kw_only=True):
    """A new session and, this once, its token."""

    token: str
    session: SessionRecord
    user: UserRecord

    def __repr__(self) -> str:
        return f"LogIn(session={self.session.id})"


class Sessions:
    """Logs people in and out."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        *,
        passwords: Passwords,
        limits: AccountLimits,
        lifetimes: SessionLifetimes,
    ) -> None:
        self._db = db
        self._bus = bus
        self._passwords = passwords
        self._limits = limits
        self._lifetimes = lifetimes

    async def log_in(
        self, email: str, password: str, *, client: Client, device_name: str | None = None
    ) -> LogIn:
        """Open a session.

        A wrong address and a wrong password take the same time and get the same answer.

        Raises:
            InvalidCredentials: they don't belong together.
            InvalidInput: ``device_name`` can't be stored.
            RateLimited: too many failures from there.
            Busy: too many passwords are being checked.
        """
        if device_name is not None:
            check_label(device_name, field="device_name", max_characters=_MAX_DEVICE_NAME)
        user = await self._check_password(email, password, client)
        token = new_token(TokenKind.SESSION)
        [row] = await self._db.fetch(
            "INSERT INTO sessions "  # noqa: S608 - constants
            "(id, user_id, token_digest, expires_at, ip_address, user_agent, device_name) "
            "VALUES ({}, {}, {}, now() + make_interval(secs => {}), {}, {}, {}) "
            f"RETURNING {_COLUMNS}",
            new_id(),
            user.id,
            token.digest,
            self._lifetimes.lifetime_s,
            clean_header(client.ip_address, max_characters=_MAX_IP_ADDRESS),
            clean_header(client.user_agent, max_characters=_MAX_USER_AGENT),
            device_name,
        )
        return LogIn(token=token.secret, session=SessionRecord(**row), user=user)

    async def get(self, user_id: UUID, session_id: UUID) -> SessionRecord:
        """Return one live session of a user.

        Raises:
            NotFound: it has ended, or is somebody else's.
        """
        row = await self._db.fetch_one(
            f"SELECT {_COLUMNS} FROM sessions WHERE id = {{}} AND user_id = {{}} AND {IS_LIVE}",  # noqa: S608 - constants
            session_id,
            user_id,
            self._lifetimes.idle_s,
        )
        return _found(row)

    async def find_many(self, user_id: UUID, ids: Collection[UUID]) -> list[SessionRecord]:
        """Return those of the sessions that live and that are the user's, in any order."""
        rows = await self._db.fetch(
            f"SELECT {_COLUMNS} FROM sessions WHERE id = ANY({{}}::uuid[]) AND user_id = {{}} AND {IS_LIVE}",  # noqa: S608 - constants
            list(ids),
            user_id,
            self._lifetimes.idle_s,
        )
        return [SessionRecord(**row) for row in rows]

    async def page(self, user_id: UUID, request: PageRequest) -> Page[SessionRecord]:
        """Return live sessions of a user, newest first."""
        query = PageQuery(
            table="sessions",
            where=f"user_id = {{}} AND {IS_LIVE}",
            args=(user_id, self._lifetimes.idle_s),
            columns=_COLUMNS,
        )
        return await page(self._db, query, request, lambda row: SessionRecord(**row))

    async def end(self, session_id: UUID, user_id: UUID) -> SessionRecord:
        """End one session: refused from now on, its sockets closed within a second.

        Raises:
            NotFound: it has ended already, or is somebody else's.
        """
        row = await self._db.fetch_one(
            "UPDATE sessions SET ended_at = now() "  # noqa: S608 - constants
            f"WHERE id = {{}} AND user_id = {{}} AND {IS_LIVE} RETURNING {_COLUMNS}",
            session_id,
            user_id,
            self._lifetimes.idle_s,
        )
        record = _found(row)
        await announce(self._bus, [session_id], SESSION_ENDED)
        return record

    async def end_all(self, user_id: UUID) -> None:
        """End every session of a user."""
        rows = await self._db.fetch(
            "UPDATE sessions SET ended_at = now() WHERE user_id = {} AND ended_at IS NULL RETURNING id",
            user_id,
        )
        await announce(self._bus, [row["id"] for row in rows], SESSION_ENDED)

    async def _check_password(self, email: str, password: str, client: Client) -> UserRecord:
        row = await self._find_user(email)
        stored = None if row is None else row["password_hash"]
        # Counted before the outcome is known, so that guesses made at the same time count too; nothing is
        # awaited between here and the queue of the password pool, so few attempts are counted at a time.
        attempt = self._limits.begin_log_in(email, client.ip_address)
        try:
            matches = await self._passwords.verify(password, stored)
        except Busy:
            attempt.give_back()
            raise
        if row is None or not matches:
            raise InvalidCredentials("The address and the password don't belong together.")
        attempt.give_back()
        if self._passwords.needs_rehash(row["password_hash"]):
            await self._rehash(row["id"], password)
        return UserRecord(id=row["id"], email=row["email"], created_at=row["created_at"])

    async def _find_user(self, email: str) -> dict[str, Any] | None:
        if not is_email(email):
            return None
        return await self._db.fetch_one(
            "SELECT id, email, created_at, password_hash FROM users WHERE lower(email) = lower({})", email
        )

    async def _rehash(self, user_id: UUID, password: str) -> None:
        try:
            password_hash = await self._passwords.hash(password)
        except Busy:
            # The next log-in will do it.
            return
        await self._db.execute("UPDATE users SET password_hash = {} WHERE id = {}", password_hash, user_id)


def _found(row: dict[str, Any] | None) -> SessionRecord:
    if row is None:
        raise NotFound("There is no such session.")
    return SessionRecord(**row)
