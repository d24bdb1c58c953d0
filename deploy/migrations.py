"""Migrate a database, or say in one line why not."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from deploy.errors import CommandFailed
from server.migrations import runner


async def migrate_database(url: str) -> list[str]:
    """Apply what the database has not had yet and return its names.

    Raises:
        CommandFailed: the database can't be reached, or refused a migration.
    """
    with _in_one_line("the database can't be migrated"):
        return await runner.migrate(url)


async def find_pending_migrations(url: str) -> list[str]:
    """Return what `migrate_database` would apply.

    Raises:
        CommandFailed: the database can't be reached.
    """
    with _in_one_line("the database does not answer"):
        return await runner.find_pending(url)


@contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        # A malformed address is a ValueError.
        raise CommandFailed(f"{what} ({error or type(error).__name__}): check DATABASE_URL") from error
    except runner.MigrationChanged as error:
        raise CommandFailed(str(error)) from error
