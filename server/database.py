"""The database, through Piccolo's engine: a pool, transactions, SQL with ``{}`` placeholders."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Self
from urllib.parse import urlsplit

import asyncpg
from piccolo.engine.postgres import PostgresEngine, PostgresTransaction
from piccolo.querystring import QueryString

from server.errors import Busy
from server.migrations.runner import migrate

__all__ = ["Database", "DatabaseError", "DatabaseUnavailable", "LazyEngine", "UniqueViolated", "migrate"]

#: A statement that takes longer has lost its caller.
_COMMAND_TIMEOUT_S = 10.0
#: How long a caller waits for a free connection before hearing that we are busy.
_ACQUIRE_TIMEOUT_S = 10.0
_CONNECT_TIMEOUT_S = 5.0
#: Giving a connection back waits for a cancelled statement to end, which a silent server never says.
_RELEASE_TIMEOUT_S = 1.0
#: How the driver puts it: it reads an error that belongs to no statement.
_SAID_GOODBYE = "another operation (2) is in progress"


class DatabaseError(Exception):
    """The root of what the database refuses."""


class UniqueViolated(DatabaseError):
    """A row with these values exists. ``constraint`` is the name of the unique constraint or index."""

    def __init__(self, constraint: str) -> None:
        super().__init__(f"unique constraint {constraint}")
        self.constraint = constraint


class DatabaseUnavailable(Busy):
    """The database can't be reached, or has no connection free."""

    def __init__(self) -> None:
        super().__init__("The database can't be reached right now; try again shortly.", retry_after_s=1.0)


class _Transaction(PostgresTransaction):
    """What Piccolo's engine joins: it reads ``connection`` of whatever is current and true.

    Piccolo's own class keeps the connection and stays current for ever when a commit fails.
    """

    def __init__(self, connection: "asyncpg.pool.PoolConnectionProxy") -> None:
        self.connection = connection
        self.is_open = True

    def __bool__(self) -> bool:
        # A task started inside a transaction carries a copy of its context; once the transaction is over,
        # that task gets a connection of its own.
        return self.is_open


class LazyEngine(PostgresEngine):
    """Piccolo's engine, without the connection that its constructor makes."""

    async def check_version(self) -> None:
        """Leave it to the first query."""

    async def prep_database(self) -> None:
        """Need no extension."""


class _PooledEngine(LazyEngine):
    """An engine that waits a bounded time for a connection of its pool, and has none without a pool."""

    async def _run_in_pool(self, query: str, args: Sequence[Any] | None = None) -> list[asyncpg.Record]:
        async with self.acquire() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(query, *(args or ()))
            return rows

    async def _run_in_new_connection(
        self,
        query: str,  # noqa: ARG002 - Piccolo's signature
        args: Sequence[Any] | None = None,  # noqa: ARG002 - Piccolo's signature
    ) -> None:
        # What Piccolo falls back to without a pool: the database was closed.
        raise DatabaseUnavailable

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator["asyncpg.pool.PoolConnectionProxy"]:
        """Borrow a connection from the pool."""
        if self.pool is None:
            raise DatabaseUnavailable
        with _typed_errors():
            connection = await self.pool.acquire(timeout=_ACQUIRE_TIMEOUT_S)
        try:
            yield connection
        finally:
            # One that can't be given back has been closed: what the block raised matters more.
            with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self.pool.release(connection, timeout=_RELEASE_TIMEOUT_S)


class Database:
    """An open pool of connections to one PostgreSQL database.

    Every method raises DatabaseUnavailable where the database can't be reached or is too busy, and
    UniqueViolated where a unique constraint refuses a row. Placeholders are ``{}``; a literal brace is
    doubled.
    """

    def __init__(self, engine: _PooledEngine) -> None:
        self._engine = engine

    @classmethod
    async def open(cls, url: str, *, min_size: int = 1, max_size: int = 10) -> Self:
        """Connect.

        Args:
            url: ``postgresql://...``.
            min_size: connections that are opened at once and kept.
            max_size: the most connections at a time.

        Raises:
            DatabaseUnavailable: no connection could be made.
        """
        engine = _PooledEngine(config={"dsn": url, "database": urlsplit(url).path.lstrip("/") or None})
        with _typed_errors():
            await engine.start_connection_pool(
                min_size=min_size,
                max_size=max_size,
                timeout=_CONNECT_TIMEOUT_S,
                command_timeout=_COMMAND_TIMEOUT_S,
                reset=_keep_session,
            )
        return cls(engine)

    async def fetch(self, sql: str, *args: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - what SQL takes
        """Run one statement, in the current transaction if there is one, and return its rows."""
        with _typed_errors():
            rows = await self._engine.run_querystring(QueryString(sql, *args))
        return self._engine.transform_response_to_dicts(rows)

    async def fetch_one(self, sql: str, *args: Any) -> dict[str, Any] | None:  # noqa: ANN401 - what SQL takes
        """Run one statement and return its first row, or None."""
        rows = await self.fetch(sql, *args)
        return rows[0] if rows else None

    async def execute(self, sql: str, *args: Any) -> None:  # noqa: ANN401 - what SQL takes
        """Run one statement for its effect."""
        await self.fetch(sql, *args)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit what the block did, or nothing of it if it raises.

        Inside another transaction this is a savepoint: the inner block can fail alone. Don't query from
        several tasks at once inside one: they share its connection.
        """
        current = self._engine.current_transaction
        outer = current.get()
        if outer:
            async with _all_or_nothing(outer.connection):
                yield
            return
        async with self._engine.acquire() as connection:
            transaction = _Transaction(connection)
            token = current.set(transaction)
            try:
                async with _all_or_nothing(connection):
                    yield
            finally:
                transaction.is_open = False
                current.reset(token)

    async def is_reachable(self) -> bool:
        """Whether a query is answered now."""
        try:
            await self.fetch("SELECT 1")
        except DatabaseUnavailable:
            return False
        return True

    async def close(self) -> None:
        """Wait for running queries, then disconnect. Closing twice is fine."""
        if self._engine.pool is not None:
            await self._engine.close_connection_pool()


async def _keep_session(_: asyncpg.Connection) -> None:
    """Spare each query a second round trip: none of ours changes settings, listens or locks a session."""


@asynccontextmanager
async def _all_or_nothing(connection: "asyncpg.pool.PoolConnectionProxy") -> AsyncIterator[None]:
    """Run the block in a transaction, or in a savepoint if there is one."""
    transaction = connection.transaction()
    with _typed_errors():
        await transaction.start()
    try:
        yield
    except BaseException:
        # On a lost connection there is nothing to roll back; the caller should see the first error.
        with suppress(DatabaseUnavailable), _typed_errors():
            await transaction.rollback()
        raise
    with _typed_errors():
        await transaction.commit()


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise UniqueViolated(error.constraint_name or "") from error
    except (
        OSError,
        TimeoutError,
        asyncpg.PostgresConnectionError,
        asyncpg.CannotConnectNowError,
        asyncpg.TooManyConnectionsError,
        asyncpg.AdminShutdownError,
        asyncpg.CrashShutdownError,
    ) as error:
        raise DatabaseUnavailable from error
    except asyncpg.InternalClientError as error:
        # The server has said good-bye on this connection, which the driver has not closed yet.
        if _SAID_GOODBYE in str(error):
            raise DatabaseUnavailable from error
        raise
    except asyncpg.InterfaceError as error:
        # The driver says so too when it is used wrongly, which is a bug and stays one.
        if any(said in str(error) for said in ("closed", "closing", "released")):
            raise DatabaseUnavailable from error
        raise
