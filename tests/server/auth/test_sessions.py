"""Logging in and out."""

import asyncio
from uuid import uuid4

import pytest
from argon2 import PasswordHasher

from bus.messages import AccessRevoked
from bus.port import Bus
from bus.subjects import ACCESS_REVOKED
from server.auth.accounts import Accounts
from server.auth.authenticator import Authenticator
from server.auth.passwords import Passwords
from server.auth.sessions import SessionLifetimes, Sessions
from server.database import Database
from server.errors import (
    Busy,
    Conflict,
    InvalidCredentials,
    InvalidInput,
    NotFound,
    RateLimited,
    Unauthenticated,
)
from server.limits import AccountLimits
from server.records import Client, PageRequest
from tests.support.accounts import CLIENT, LIFETIMES, PASSWORD, Enter


async def test_an_account_can_be_used_at_once(accounts: Accounts, sessions: Sessions) -> None:
    user = await accounts.sign_up("A@b.example", PASSWORD)

    done = await sessions.log_in("a@B.example", PASSWORD, client=CLIENT, device_name="my laptop")

    assert user == done.user
    assert user == await accounts.get(user.id)
    assert ("A@b.example", "192.0.2.1", "tests/1", "my laptop") == (
        done.user.email,
        done.session.ip_address,
        done.session.user_agent,
        done.session.device_name,
    )
    assert LIFETIMES.lifetime_s == (done.session.expires_at - done.session.created_at).total_seconds()
    assert done.token not in repr(done)


async def test_an_address_has_one_account(accounts: Accounts) -> None:
    await accounts.sign_up("a@b.example", PASSWORD)

    with pytest.raises(Conflict) as refused:
        await accounts.sign_up("A@B.example", "another long password")
    assert ("email",) == refused.value.path


async def test_of_many_sign_ups_at_once_one_gets_the_address(accounts: Accounts) -> None:
    outcomes = await asyncio.gather(
        *(accounts.sign_up("a@b.example", PASSWORD) for _ in range(8)), return_exceptions=True
    )

    assert 7 == sum(isinstance(outcome, Conflict) for outcome in outcomes)


async def test_a_user_who_is_gone_is_not_found(accounts: Accounts) -> None:
    with pytest.raises(NotFound):
        await accounts.get(uuid4())


async def test_nothing_secret_is_kept_in_clear(database: Database, enter: Enter) -> None:
    done = await enter("a@b.example")

    rows = await database.fetch(
        "SELECT users::text || sessions::text AS text FROM users JOIN sessions ON user_id = users.id"
    )

    assert PASSWORD not in rows[0]["text"]
    assert done.token not in rows[0]["text"]
    assert done.token.encode().hex() not in rows[0]["text"]


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("a@b.example", "not the password at all"),
        ("a@b.example", PASSWORD + " "),
        ("a@b.example", ""),
        ("a@b.example", "\0"),
        ("a@b.example", "\ud800"),
        ("nobody@b.example", PASSWORD),
        ("no address", PASSWORD),
        ("a\0@b.example", PASSWORD),
        ("\ud800@b.example", PASSWORD),
        ("", PASSWORD),
    ],
)
async def test_whatever_is_wrong_the_answer_is_the_same(
    accounts: Accounts, sessions: Sessions, email: str, password: str
) -> None:
    await accounts.sign_up("a@b.example", PASSWORD)

    with pytest.raises(InvalidCredentials) as refused:
        await sessions.log_in(email, password, client=CLIENT)

    assert ("The address and the password don't belong together.", ()) == (
        refused.value.message,
        refused.value.path,
    )


async def test_a_device_name_that_cannot_be_shown_is_refused(sessions: Sessions) -> None:
    with pytest.raises(InvalidInput) as refused:
        await sessions.log_in("a@b.example", PASSWORD, client=CLIENT, device_name="\0")

    assert ("device_name",) == refused.value.path


async def test_a_client_that_says_strange_things_of_itself_is_let_in(
    accounts: Accounts, sessions: Sessions
) -> None:
    await accounts.sign_up("a@b.example", PASSWORD)

    done = await sessions.log_in("a@b.example", PASSWORD, client=Client(user_agent="a\0b" * 1000))

    assert 400 == len(done.session.user_agent or "")


async def test_many_at_once_each_get_their_own_session(
    accounts: Accounts, sessions: Sessions, authenticator: Authenticator
) -> None:
    emails = [f"{number}@b.example" for number in range(20)]
    users = await asyncio.gather(*(accounts.sign_up(email, PASSWORD) for email in emails))

    done = await asyncio.gather(*(sessions.log_in(email, PASSWORD, client=CLIENT) for email in emails))
    principals = await asyncio.gather(*(authenticator.authenticate(each.token) for each in done))

    assert [user.id for user in users] == [principal.user_id for principal in principals]
    assert [each.session.id for each in done] == [principal.credential_id for principal in principals]


async def test_guessing_is_throttled_for_the_guesser_alone(accounts: Accounts, sessions: Sessions) -> None:
    await accounts.sign_up("a@b.example", PASSWORD)
    for _ in range(20):
        with pytest.raises(InvalidCredentials):
            await sessions.log_in("a@b.example", "not the password at all", client=CLIENT)

    with pytest.raises(RateLimited) as refused:
        await sessions.log_in("a@b.example", PASSWORD, client=CLIENT)
    assert (refused.value.retry_after_s or 0) > 0
    assert await sessions.log_in("a@b.example", PASSWORD, client=Client(ip_address="192.0.2.2"))


async def test_logging_in_often_is_no_guessing(accounts: Accounts, sessions: Sessions) -> None:
    await accounts.sign_up("a@b.example", PASSWORD)

    for _ in range(25):
        await sessions.log_in("a@b.example", PASSWORD, client=CLIENT)


async def test_a_full_pool_is_busy_and_counts_as_no_guess(
    database: Database, bus: Bus, accounts: Accounts, limits: AccountLimits
) -> None:
    await accounts.sign_up("a@b.example", PASSWORD)
    closed = Passwords(threads=1, queue=1)
    closed.close()
    sessions = Sessions(database, bus, passwords=closed, limits=limits, lifetimes=LIFETIMES)

    for _ in range(30):
        with pytest.raises(Busy):
            await sessions.log_in("a@b.example", PASSWORD, client=CLIENT)


async def test_logging_in_renews_an_old_hash(
    database: Database, accounts: Accounts, sessions: Sessions
) -> None:
    await accounts.sign_up("a@b.example", PASSWORD)
    old = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    await database.execute("UPDATE users SET password_hash = {}", old)

    await sessions.log_in("a@b.example", PASSWORD, client=CLIENT)

    [row] = await database.fetch("SELECT password_hash FROM users")
    assert row["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await sessions.log_in("a@b.example", PASSWORD, client=CLIENT)


async def test_a_hash_that_cannot_be_renewed_now_keeps_nobody_out(
    monkeypatch: pytest.MonkeyPatch,
    database: Database,
    accounts: Accounts,
    sessions: Sessions,
    passwords: Passwords,
) -> None:
    async def refuse(password: str) -> str:
        raise Busy("full")

    await accounts.sign_up("a@b.example", PASSWORD)
    old = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    await database.execute("UPDATE users SET password_hash = {}", old)
    monkeypatch.setattr(passwords, "hash", refuse)

    assert await sessions.log_in("a@b.example", PASSWORD, client=CLIENT)


async def test_an_ended_session_is_refused_at_once_and_announced(
    bus: Bus, enter: Enter, sessions: Sessions, authenticator: Authenticator
) -> None:
    done = await enter("a@b.example")
    told = await listen(bus)

    ended = await sessions.end(done.session.id, done.user.id)

    assert done.session.id == ended.id
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(done.token)
    message = await asyncio.wait_for(told.get(), timeout=5)
    assert (str(done.session.id), "session ended") == (message.credential_id, message.reason)
    with pytest.raises(NotFound):
        await sessions.end(done.session.id, done.user.id)
    with pytest.raises(NotFound):
        await sessions.get(done.user.id, done.session.id)


async def test_somebody_elses_session_is_not_found(enter: Enter, sessions: Sessions) -> None:
    mine, theirs = await enter("a@b.example"), await enter("c@d.example")

    with pytest.raises(NotFound):
        await sessions.get(mine.user.id, theirs.session.id)
    with pytest.raises(NotFound):
        await sessions.end(theirs.session.id, mine.user.id)
    assert theirs.session == await sessions.get(theirs.user.id, theirs.session.id)


async def test_all_sessions_of_a_user_end_together_and_nobody_elses(
    bus: Bus, enter: Enter, sessions: Sessions, authenticator: Authenticator
) -> None:
    first, theirs = await enter("a@b.example"), await enter("c@d.example")
    second = await sessions.log_in("a@b.example", PASSWORD, client=CLIENT)
    told = await listen(bus)

    await sessions.end_all(first.user.id)

    for token in (first.token, second.token):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(token)
    assert await authenticator.authenticate(theirs.token)
    announced = {(await asyncio.wait_for(told.get(), timeout=5)).credential_id for _ in range(2)}
    assert {str(first.session.id), str(second.session.id)} == announced


async def test_the_list_has_the_live_sessions_newest_first(enter: Enter, sessions: Sessions) -> None:
    first = await enter("a@b.example")
    await enter("c@d.example")
    second = await sessions.log_in("a@b.example", PASSWORD, client=CLIENT)
    third = await sessions.log_in("a@b.example", PASSWORD, client=CLIENT)
    await sessions.end(second.session.id, second.user.id)

    page = await sessions.page(first.user.id, PageRequest(first=10))

    assert [third.session, first.session] == page.items


@pytest.mark.parametrize(
    "aged",
    [
        "UPDATE sessions SET expires_at = now()",
        "UPDATE sessions SET last_seen_at = now() - interval '601 seconds'",
    ],
)
async def test_time_ends_a_session(
    database: Database, enter: Enter, sessions: Sessions, authenticator: Authenticator, aged: str
) -> None:
    done = await enter("a@b.example")
    principal = await authenticator.authenticate(done.token)

    await database.execute(aged)

    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(done.token)
    with pytest.raises(Unauthenticated):
        await authenticator.verify(principal)
    assert [] == (await sessions.page(done.user.id, PageRequest(first=10))).items


def test_sessions_last_a_month_and_a_week_unused_unless_said_otherwise() -> None:
    assert (30 * 86400, 7 * 86400) == (SessionLifetimes().lifetime_s, SessionLifetimes().idle_s)


async def listen(bus: Bus) -> "asyncio.Queue[AccessRevoked]":
    told: asyncio.Queue[AccessRevoked] = asyncio.Queue()

    async def put(message: object) -> None:
        assert isinstance(message, AccessRevoked)
        told.put_nowait(message)

    await bus.follow(ACCESS_REVOKED, put)
    return told
