"""Passwords: what may be chosen, how it is kept, and what a full pool says."""

import asyncio
import threading

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from server.auth.password_rules import check_new_password
from server.auth.passwords import Passwords
from server.errors import Busy, InvalidInput

EMAIL = "somebody.with.a.name@b.example"
GOOD = "four words and a cat"


@pytest.fixture
def passwords() -> Passwords:
    return Passwords(threads=1, queue=2)


@pytest.mark.parametrize(
    "password",
    [
        GOOD,
        "fifteen letters",
        " leading and trailing ",
        "пятнадцать букв!",
        "🐈🐕🐇🐎🐖🐑🐐🐓🦆🦉🦊🦝🐻🐼🐨",
        "x" + "y" * 100 + "some words here",
        "ab cd ef gh " * 21 + "end.",
    ],
)
def test_a_long_password_of_any_characters_may_be_chosen(password: str) -> None:
    check_new_password(password, email=EMAIL)


@pytest.mark.parametrize(
    "password",
    [
        "",
        "fourteen chars",
        "🐈" * 14,
        "long" * 64 + "x",
        "with a NUL \0 inside",
        "half a pair \ud83d inside",
        EMAIL,
        EMAIL.upper(),
        "aaaaaaaaaaaaaaaaaaaa",
        "abababababababab",
        "passwordpassword",
        "PasswordPasswordPassword",
        "123456789012345",
        "987654321098765",
        "abcdefghijklmnop",
        "zyxwvutsrqponmlk",
        "qwertyuiopasdfgh",
        "CorrectHorseBatteryStaple",
    ],
)
def test_a_short_or_guessable_or_unsendable_password_is_refused(password: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_new_password(password, email=EMAIL)

    assert ("password",) == refused.value.path
    assert not password or password not in refused.value.message


@given(st.text())
def test_any_text_is_accepted_or_refused_and_nothing_else(password: str) -> None:
    try:
        check_new_password(password, email=EMAIL)
    except InvalidInput:
        return
    assert 15 <= len(password) <= 256


async def test_a_password_is_verified_exactly_as_received(passwords: Passwords) -> None:
    stored = await passwords.hash(" pässword with spaces ")

    assert await passwords.verify(" pässword with spaces ", stored)
    for other in ("pässword with spaces", " Pässword with spaces ", " pa\u0308ssword with spaces "):
        assert not await passwords.verify(other, stored)


async def test_hashes_are_argon2id_with_the_documented_cost_and_differ(passwords: Passwords) -> None:
    first, second = await passwords.hash(GOOD), await passwords.hash(GOOD)

    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second


@pytest.mark.parametrize("password", ["", GOOD, "\0", "\ud800", "x" * 257])
async def test_nobody_has_no_password(passwords: Passwords, password: str) -> None:
    assert not await passwords.verify(password, None)


async def test_an_unknown_user_costs_as_much_as_a_wrong_password(passwords: Passwords) -> None:
    """Neither answer may be quicker: both compute a whole hash with today's parameters."""
    computed: list[str] = []
    hasher = passwords._hasher
    stored = await passwords.hash(GOOD)

    class Watching(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002 - argon2's name
            computed.append(str(hash).rpartition("$")[0].rpartition("$")[0])
            return hasher.verify(hash, password)

    passwords._hasher = Watching()

    await passwords.verify("another password", stored)
    await passwords.verify("another password", None)

    assert ["$argon2id$v=19$m=19456,t=2,p=1"] * 2 == computed


async def test_an_old_hash_needs_a_new_one(passwords: Passwords) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(GOOD)

    assert await passwords.verify(GOOD, old)
    assert passwords.needs_rehash(old)
    assert not passwords.needs_rehash(await passwords.hash(GOOD))


async def test_a_full_pool_says_busy_and_serves_those_who_wait(passwords: Passwords) -> None:
    go_on = threading.Event()
    first = asyncio.create_task(passwords._run(go_on.wait))
    waiting = [asyncio.create_task(passwords.verify(GOOD, None)) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(Busy) as refused:
        await passwords.hash(GOOD)
    assert refused.value.retry_after_s is not None

    go_on.set()
    assert [True, False, False] == await asyncio.gather(first, *waiting)
    assert await passwords.hash(GOOD)


async def test_a_caller_who_leaves_frees_a_place_only_when_the_work_ends(passwords: Passwords) -> None:
    go_on = threading.Event()
    started = threading.Event()

    def work() -> None:
        started.set()
        go_on.wait()

    callers = [asyncio.create_task(passwords._run(work)) for _ in range(3)]
    await asyncio.to_thread(started.wait, 5)
    callers[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await callers[0]

    with pytest.raises(Busy):
        await passwords.hash(GOOD)

    go_on.set()
    await asyncio.gather(*callers[1:])
    assert await passwords.hash(GOOD)


async def test_a_closed_pool_is_busy(passwords: Passwords) -> None:
    passwords.close()

    for _ in range(4):
        with pytest.raises(Busy):
            await passwords.hash(GOOD)
