"""Bring a database forwards to the newest migration.

A migration is one file ``NNNN_name.sql`` in this folder, run in one transaction and never changed once it
is released. ``schema_migrations`` says which ones a database has had.
"""

import hashlib
from collections.abc import Sequence
from importlib.resources import files

import asyncpg
import msgspec

#: Any number will do, as long as every process uses the same one.
_LOCK_KEY = 7_108_246_133

_CREATE_REGISTER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationChanged(Exception):
    """A migration that this database has had is not the one in the folder any more."""


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the schema."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The digest of the SQL text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def find_migrations() -> list[Migration]:
    """Read the migrations of this release in their order."""
    found = [entry for entry in files("server.migrations").iterdir() if entry.name.endswith(".sql")]
    return [
        Migration(name=entry.name.removesuffix(".sql"), sql=entry.read_text(encoding="utf-8"))
        for entry in sorted(found, key=lambda entry: entry.name)
    ]


async def migrate(url: str, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Apply what the database has not had yet and return the names of what was applied.

    Any number of processes may call this at once: one works, the others wait for it. A database that has
    had migrations this release does not know is left alone, so that two releases can run side by side.

    Raises:
        MigrationChanged: an applied migration was edited afterwards.
    """
    connection = await asyncpg.connect(url)
    try:
        # The lock is the session's: it ends with the connection, whatever happens in between.
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_KEY)
        await connection.execute(_CREATE_REGISTER)
        rows = await connection.fetch("SELECT name, sha256 FROM schema_migrations")
        return await _apply(
            connection,
            find_migrations() if migrations is None else migrations,
            {row["name"]: row["sha256"] for row in rows},
        )
    finally:
        await connection.close()


async def find_pending(url: str) -> list[str]:
    """Return the names of what `migrate` would apply, without changing or waiting for anything."""
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
            had = set()
        else:
            had = {row["name"] for row in await connection.fetch("SELECT name FROM schema_migrations")}
    finally:
        await connection.close()
    return [migration.name for migration in find_migrations() if migration.name not in had]


async def _apply(
    connection: asyncpg.Connection, migrations: Sequence[Migration], had: dict[str, str]
) -> list[str]:
    applied = []
    for migration in migrations:
        if had.get(migration.name, migration.sha256) != migration.sha256:
            raise MigrationChanged(
                f"{migration.name} was changed after it was applied; put the change in a new migration"
            )
        if migration.name in had:
            continue
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)",
                migration.name,
                migration.sha256,
            )
        applied.append(migration.name)
    return applied
