"""`towhee-api migrate`: bring the database to the newest schema."""

import argparse
import asyncio
import os

from bus.settings import SettingsError
from deploy.environment import with_nearest_stack
from deploy.migrations import migrate_database


def run(arguments: argparse.Namespace) -> int:
    """Apply what the database has not had yet.

    Raises:
        SettingsError: DATABASE_URL is not set.
        CommandFailed: a migration could not be applied.
    """
    url = with_nearest_stack(arguments).get("DATABASE_URL")
    if not url:
        raise SettingsError("DATABASE_URL", "is not set: set it, or name a running stack with --data-dir")
    applied = asyncio.run(migrate_database(url))
    for name in applied:
        print(f"applied {name}")
    if not applied:
        print("nothing to do")
    return os.EX_OK
