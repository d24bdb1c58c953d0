"""People and their passwords."""

from uuid import UUID

from server.auth.fields import check_email
from server.auth.password_rules import check_new_password
from server.auth.passwords import Passwords
from server.database import Database, UniqueViolated
from server.errors import Conflict, NotFound
from server.ids import new_id
from server.limits import AccountLimits
from server.records import Client, UserRecord


class Accounts:
    """Makes accounts and finds them."""

    def __init__(self, db: Database, passwords: Passwords, limits: AccountLimits) -> None:
        self._db = db
        self._passwords = passwords
        self._limits = limits

    async def sign_up(self, email: str, password: str, *, client: Client | None = None) -> UserRecord:
        """Make an account that can be used at once.

        Args:
            email: stored as typed; compared without case.
            password: kept exactly as received.
            client: where the request came from, for throttling.

        Raises:
            InvalidInput: the address has no such form, or the password may not be chosen.
            Conflict: the address has an account.
            RateLimited: too many accounts from there.
            Busy: too many passwords are being hashed.
        """
        check_email(email)
        check_new_password(password, email=email)
        self._limits.begin_sign_up(client.ip_address if client else None)
        password_hash = await self._passwords.hash(password)
        try:
            [row] = await self._db.fetch(
                "INSERT INTO users (id, email, password_hash) VALUES ({}, {}, {}) "
                "RETURNING id, email, created_at",
                new_id(),
                email,
                password_hash,
            )
        except UniqueViolated as error:
            raise Conflict("There is an account with this address.", path=("email",)) from error
        return UserRecord(**row)

    async def get(self, user_id: UUID) -> UserRecord:
        """Return an account.

        Raises:
            NotFound: it is gone.
        """
        row = await self._db.fetch_one("SELECT id, email, created_at FROM users WHERE id = {}", user_id)
        if row is None:
            raise NotFound("There is no such user.")
        return UserRecord(**row)
