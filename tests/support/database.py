"""Fixtures: a real PostgreSQL, and an empty migrated database for each test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from deploy.local.postgres import ROLE, LocalPostgres, prepare, running
from server.database import Database, migrate

_TEMPLATE = "template_migrated"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalPostgres]:
    """A running server that forgets everything in a crash, which makes it fast."""
    server = prepare(Path(tmp_path_factory.mktemp("pg")), durable=False)
    async with running(server):
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def database_template(postgres: LocalPostgres) -> str:
    """The name of a migrated database that is cloned for each test."""
    await _as_admin(postgres, f"CREATE DATABASE {_TEMPLATE} OWNER {ROLE}")
    await migrate(_url_of(postgres, _TEMPLATE))
    return _TEMPLATE


@pytest.fixture
async def make_database_url(postgres: LocalPostgres) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Clone a database by name and return the URL of the clone, which goes when the test ends."""
    names: list[str] = []

    async def make(template: str) -> str:
        name = f"test_{uuid4().hex}"
        # A file copy is quicker than writing the clone to the log: there is nothing to keep safe here.
        await _as_admin(
            postgres, f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE {template} STRATEGY file_copy"
        )
        names.append(name)
        return _url_of(postgres, name)

    yield make
    for name in names:
        await _as_admin(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_url(make_database_url: Callable[[str], Awaitable[str]], database_template: str) -> str:
    """The URL of an empty, migrated database of this test's own."""
    return await make_database_url(database_template)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open pool on ``database_url``."""
    database = await Database.open(database_url)
    yield database
    await database.close()


def _url_of(postgres: LocalPostgres, name: str) -> str:
    head, _, query = postgres.url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


async def _as_admin(postgres: LocalPostgres, statement: str) -> None:
    connection = await asyncpg.connect(postgres.admin_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
