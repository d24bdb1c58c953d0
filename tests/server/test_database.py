"""The database port: transactions, typed errors, reachability."""

import asyncio

import asyncpg
import pytest

from deploy.local.postgres import LocalPostgres
from server.database import Database, DatabaseUnavailable, UniqueViolated, _typed_errors

INSERT = "INSERT INTO users (id, email, password_hash) VALUES (gen_random_uuid(), {}, 'x')"


async def emails(database: Database) -> list[str]:
    return [row["email"] for row in await database.fetch("SELECT email FROM users ORDER BY email")]


async def test_a_transaction_commits_what_its_block_did(database: Database) -> None:
    async with database.transaction():
        await database.execute(INSERT, "a@b.example")

    assert ["a@b.example"] == await emails(database)


async def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    async def work() -> None:
        async with database.transaction():
            await database.execute(INSERT, "a@b.example")
            raise LookupError

    with pytest.raises(LookupError):
        await work()

    assert [] == await emails(database)


async def test_an_inner_transaction_can_fail_alone(database: Database) -> None:
    async with database.transaction():
        await database.execute(INSERT, "a@b.example")
        with pytest.raises(UniqueViolated):
            async with database.transaction():
                await database.execute(INSERT, "A@b.example")
        async with database.transaction():
            await database.execute(INSERT, "c@d.example")

    assert ["a@b.example", "c@d.example"] == await emails(database)


async def test_a_unique_violation_names_its_constraint(database: Database) -> None:
    await database.execute(INSERT, "a@b.example")

    with pytest.raises(UniqueViolated) as refused:
        await database.execute(INSERT, "A@B.example")

    assert "users_email_key" == refused.value.constraint


async def test_an_error_of_the_block_stays_what_it_is(database: Database) -> None:
    """Only what the database itself says is about the database."""
    with pytest.raises(ConnectionResetError):
        async with database.transaction():
            raise ConnectionResetError


async def test_a_task_that_outlives_a_transaction_gets_its_own_connection(database: Database) -> None:
    over = asyncio.Event()

    async def later() -> list[str]:
        await over.wait()
        return await emails(database)

    async with database.transaction():
        task = asyncio.create_task(later())
        await database.execute(INSERT, "a@b.example")
    over.set()

    assert ["a@b.example"] == await asyncio.wait_for(task, timeout=5)


async def test_a_cancelled_transaction_leaves_nothing_and_frees_its_connection(database_url: str) -> None:
    database = await Database.open(database_url, max_size=1)
    inside = asyncio.Event()

    async def work() -> None:
        async with database.transaction():
            await database.execute(INSERT, "a@b.example")
            inside.set()
            await database.fetch("SELECT pg_sleep(60)")

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [] == await emails(database)
    await database.close()


async def test_a_lost_connection_is_unavailable_and_the_next_query_works(
    database_url: str, postgres: LocalPostgres
) -> None:
    database = await Database.open(database_url, max_size=1)

    with pytest.raises(DatabaseUnavailable):
        await work_on_a_lost_connection(database, postgres)

    assert [] == await emails(database)
    await database.close()


async def test_a_lost_connection_does_not_hide_what_the_block_raised(
    database_url: str, postgres: LocalPostgres
) -> None:
    database = await Database.open(database_url, max_size=1)

    with pytest.raises(LookupError):
        await work_on_a_lost_connection(database, postgres, LookupError())

    await database.close()


async def test_a_closed_database_is_not_reachable(database_url: str) -> None:
    database = await Database.open(database_url)
    assert await database.is_reachable()

    await database.close()
    await database.close()

    assert not await database.is_reachable()
    with pytest.raises(DatabaseUnavailable):
        async with database.transaction():
            pass


async def test_no_server_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable):
        await Database.open("postgresql://nobody@127.0.0.1:1/nothing")


async def test_two_queries_at_once_in_one_transaction_stay_a_bug(database: Database) -> None:
    async with database.transaction():
        outcomes = await asyncio.gather(emails(database), emails(database), return_exceptions=True)

    assert [list, asyncpg.InterfaceError] == [type(outcome) for outcome in outcomes]


async def test_a_wrong_argument_stays_a_bug(database: Database) -> None:
    with pytest.raises(asyncpg.DataError):
        await database.fetch("SELECT 1 WHERE 1 = {}::integer", "one")


async def work_on_a_lost_connection(
    database: Database, postgres: LocalPostgres, raised: Exception | None = None
) -> None:
    async with database.transaction():
        [row] = await database.fetch("SELECT pg_backend_pid() AS pid")
        await terminate(postgres, row["pid"])
        if raised is not None:
            raise raised
        await database.execute(INSERT, "a@b.example")


async def terminate(postgres: LocalPostgres, pid: int) -> None:
    admin = await asyncpg.connect(postgres.admin_url)
    try:
        # Waits until the backend is gone.
        assert await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
    finally:
        await admin.close()


def test_a_connection_that_has_been_told_to_end_is_an_unreachable_database() -> None:
    """The server's good-bye may be read before the next statement and before the connection's end."""
    with pytest.raises(DatabaseUnavailable), _typed_errors():
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")
    with pytest.raises(asyncpg.InternalClientError), _typed_errors():
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (5) is in progress")
