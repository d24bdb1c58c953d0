"""Fixtures: accounts, sessions and keys on a real database."""

from collections.abc import Awaitable, Callable, Iterator

import pytest

from bus.port import Bus
from server.auth.accounts import Accounts
from server.auth.activity import Activity
from server.auth.api_keys import ApiKeys
from server.auth.authenticator import Authenticator
from server.auth.passwords import Passwords
from server.auth.principal import Principal
from server.auth.sessions import LogIn, SessionLifetimes, Sessions
from server.database import Database
from server.limits import AccountLimits
from server.records import Client

PASSWORD = "four words and a cat"
CLIENT = Client(ip_address="192.0.2.1", user_agent="tests/1")
LIFETIMES = SessionLifetimes(lifetime_s=3600.0, idle_s=600.0)

#: Signs up and logs in, by address.
Enter = Callable[[str], Awaitable[LogIn]]


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    """A pool with room for a small crowd."""
    passwords = Passwords(threads=2, queue=64)
    yield passwords
    passwords.close()


@pytest.fixture
def limits() -> AccountLimits:
    return AccountLimits()


@pytest.fixture
def accounts(database: Database, passwords: Passwords, limits: AccountLimits) -> Accounts:
    return Accounts(database, passwords, limits)


@pytest.fixture
def sessions(database: Database, bus: Bus, passwords: Passwords, limits: AccountLimits) -> Sessions:
    return Sessions(database, bus, passwords=passwords, limits=limits, lifetimes=LIFETIMES)


@pytest.fixture
def api_keys(database: Database, bus: Bus) -> ApiKeys:
    return ApiKeys(database, bus)


@pytest.fixture
def activity(database: Database) -> Activity:
    return Activity(database)


@pytest.fixture
def authenticator(database: Database, activity: Activity) -> Authenticator:
    return Authenticator(database, activity, session_idle_s=LIFETIMES.idle_s)


@pytest.fixture
def enter(accounts: Accounts, sessions: Sessions) -> Enter:
    """Make an account and open a session of it."""

    async def enter(email: str) -> LogIn:
        await accounts.sign_up(email, PASSWORD)
        return await sessions.log_in(email, PASSWORD, client=CLIENT)

    return enter


@pytest.fixture
async def owner(enter: Enter, authenticator: Authenticator) -> Principal:
    """Somebody who is logged in."""
    return await authenticator.authenticate((await enter("owner@b.example")).token)
