"""Migrations run forwards from nothing, once, whoever calls."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from server.database import Database, migrate
from server.migrations.runner import Migration, MigrationChanged, find_migrations

MakeUrl = Callable[[str], Awaitable[str]]


@pytest.fixture
async def empty_url(make_database_url: MakeUrl) -> str:
    return await make_database_url("template0")


async def test_an_empty_database_gets_every_migration_once(empty_url: str) -> None:
    names = [migration.name for migration in find_migrations()]

    assert names == await migrate(empty_url)
    assert [] == await migrate(empty_url)


async def test_of_many_that_migrate_at_once_one_works(empty_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_url) for _ in range(5)))

    assert [[], [], [], [], [migration.name for migration in find_migrations()]] == sorted(applied)


async def test_a_migration_that_fails_leaves_nothing_of_itself(empty_url: str) -> None:
    good = Migration(name="0001_good", sql="CREATE TABLE good (id integer)")
    bad = Migration(name="0002_bad", sql="CREATE TABLE bad (id integer); SELECT 1 / 0")

    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_url, [good, bad])

    database = await Database.open(empty_url)
    rows = await database.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
    )
    await database.close()
    assert ["good", "schema_migrations"] == [row["tablename"] for row in rows]


async def test_an_edited_migration_is_refused(empty_url: str) -> None:
    await migrate(empty_url, [Migration(name="0001_a", sql="CREATE TABLE a (id integer)")])

    with pytest.raises(MigrationChanged, match="0001_a"):
        await migrate(empty_url, [Migration(name="0001_a", sql="CREATE TABLE a (id bigint)")])


async def test_a_newer_database_is_left_alone(empty_url: str) -> None:
    old = Migration(name="0001_a", sql="CREATE TABLE a (id integer)")
    await migrate(empty_url, [old, Migration(name="0002_b", sql="CREATE TABLE b (id integer)")])

    assert [] == await migrate(empty_url, [old])
