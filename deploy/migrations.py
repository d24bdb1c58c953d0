"""Migrate a database, or say in one line why not."""

import asyncpg

from deploy.errors import CommandFailed
from server.migrations.runner import MigrationChanged, migrate


async def migrate_database(url: str) -> list[str]:
    """Apply what the database has not had yet and return its names.

    Raises:
        CommandFailed: the database can't be reached, or refused a migration.
    """
    try:
        return await migrate(url)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, MigrationChanged) as error:
        raise CommandFailed(
            f"the database can't be migrated ({error or type(error).__name__}): check DATABASE_URL"
        ) from error
