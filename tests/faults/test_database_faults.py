"""A database that is there and says nothing: everybody hears so within a bounded time."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import pytest

from server import database as database_module
from server.auth import authenticator as authenticator_module
from server.auth.activity import Activity
from server.auth.authenticator import Authenticator
from server.auth.tokens import TokenKind, new_token
from server.database import Database, DatabaseUnavailable
from tests.faults.harness.proxy import Proxy, to_port, to_socket

#: Much less than the 30 s after which the operating system or a pool would give up.
SOON_S = 5.0


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    """Stands before the database."""
    parts = urlsplit(database_url)
    hosts = parse_qs(parts.query).get("host")
    proxy = Proxy(to_socket(Path(hosts[0]) / ".s.PGSQL.5432") if hosts else to_port(parts.port or 5432))
    await proxy.start()
    yield proxy
    await proxy.close()


@pytest.fixture
async def far(proxy: Proxy, database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """The database behind the proxy, with little patience."""
    monkeypatch.setattr(database_module, "_COMMAND_TIMEOUT_S", 0.3)
    monkeypatch.setattr(database_module, "_RELEASE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(database_module, "_CONNECT_TIMEOUT_S", 2.0)
    parts = urlsplit(database_url)
    where = f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"
    database = await Database.open(urlunsplit((parts.scheme, where, parts.path, "", "")))
    yield database
    proxy.become("open")
    await database.close()


async def test_a_statement_is_given_up_and_a_later_one_is_answered(far: Database, proxy: Proxy) -> None:
    proxy.become("stalled")

    async with asyncio.timeout(SOON_S):
        with pytest.raises(DatabaseUnavailable):
            await far.fetch("SELECT 1")

    proxy.become("open")
    assert [{"one": 1}] == await far.fetch("SELECT 1 AS one")


async def test_a_transaction_is_given_up_with_the_error_of_its_statement(far: Database, proxy: Proxy) -> None:
    async def work() -> None:
        async with far.transaction():
            proxy.become("stalled")
            await far.fetch("SELECT 1")

    async with asyncio.timeout(SOON_S):
        with pytest.raises(DatabaseUnavailable):
            await work()

    proxy.become("open")
    assert [{"one": 1}] == await far.fetch("SELECT 1 AS one")


async def test_who_is_asking_is_not_waited_for_longer_than_a_request_may_take(
    far: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticator_module, "_ANSWER_S", 0.1)
    authenticator = Authenticator(far, Activity(far), session_idle_s=60.0)
    proxy.become("stalled")

    async with asyncio.timeout(SOON_S):
        with pytest.raises(DatabaseUnavailable):
            await authenticator.authenticate(new_token(TokenKind.SESSION).secret)
