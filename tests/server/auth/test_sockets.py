"""A socket lives no longer than the credential that opened it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from bus.errors import PublishFailed
from bus.messages import AccessRevoked, JobNudged
from bus.port import Bus
from bus.subjects import ACCESS_REVOKED
from server.auth.activity import Activity
from server.auth.api_keys import ApiKeys
from server.auth.authenticator import Authenticator
from server.auth.principal import Principal, Scope
from server.auth.sessions import Sessions
from server.auth.sockets import SocketRegistry
from server.database import Database
from server.errors import RateLimited, Unauthenticated
from tests.support.accounts import Enter
from tests.support.processes import until


@dataclass
class FakeSocket:
    """Remembers how it was closed, as often as it was."""

    closings: list[tuple[int, str]] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def close(self, code: int, reason: str) -> None:
        self.closings.append((code, reason))
        self.closed.set()

    async def wait(self) -> list[tuple[int, str]]:
        await asyncio.wait_for(self.closed.wait(), timeout=5)
        return self.closings


@pytest.fixture
async def registry(
    bus: Bus, authenticator: Authenticator, activity: Activity
) -> AsyncIterator[SocketRegistry]:
    registry = SocketRegistry(bus, authenticator, activity)
    await registry.start()
    yield registry
    await registry.close()


@pytest.fixture
async def key(api_keys: ApiKeys, authenticator: Authenticator, owner: Principal) -> Principal:
    made = await api_keys.create(owner, name="ci", scopes=[Scope.READ])
    return await authenticator.authenticate(made.secret)


async def test_a_user_has_room_for_so_many_sockets_whatever_credential_opened_them(
    bus: Bus,
    authenticator: Authenticator,
    activity: Activity,
    owner: Principal,
    key: Principal,
    enter: Enter,
) -> None:
    registry = SocketRegistry(bus, authenticator, activity, max_of_user=2)
    stranger = await authenticator.authenticate((await enter("stranger@example.com")).token)
    first = await registry.admit(key, FakeSocket().close)
    await registry.admit(owner, FakeSocket().close)

    with pytest.raises(RateLimited) as refused:
        await registry.admit(key, FakeSocket().close)
    await registry.admit(stranger, FakeSocket().close)

    assert 5.0 == refused.value.retry_after_s
    for _ in range(2):
        registry.release(first)
    await registry.admit(key, FakeSocket().close)
    with pytest.raises(RateLimited):
        registry.require_room(owner)


async def test_revoking_a_key_closes_its_sockets_and_no_others(
    registry: SocketRegistry, api_keys: ApiKeys, owner: Principal, key: Principal
) -> None:
    first, second, other = FakeSocket(), FakeSocket(), FakeSocket()
    await registry.admit(key, first.close)
    await registry.admit(key, second.close)
    await registry.admit(owner, other.close)

    await api_keys.revoke(owner, key.credential_id)

    assert [(4403, "API key revoked")] == await first.wait()
    assert [(4403, "API key revoked")] == await second.wait()
    assert [] == other.closings


async def test_every_replica_closes_its_own(
    bus: Bus,
    registry: SocketRegistry,
    authenticator: Authenticator,
    activity: Activity,
    sessions: Sessions,
    owner: Principal,
) -> None:
    another = SocketRegistry(bus, authenticator, activity)
    await another.start()
    here, there = FakeSocket(), FakeSocket()
    await registry.admit(owner, here.close)
    await another.admit(owner, there.close)

    await sessions.end(owner.credential_id, owner.user_id)

    assert [(4403, "session ended")] == await here.wait()
    assert [(4403, "session ended")] == await there.wait()
    await another.close()


async def test_a_revocation_between_the_two_checks_is_seen(
    registry: SocketRegistry, api_keys: ApiKeys, owner: Principal, key: Principal
) -> None:
    """The token was good, then it was revoked, then the socket asks to be admitted."""
    await api_keys.revoke(owner, key.credential_id)
    socket = FakeSocket()

    with pytest.raises(Unauthenticated):
        await registry.admit(key, socket.close)

    assert {} == registry._handles


async def test_a_released_socket_is_left_alone(
    registry: SocketRegistry, api_keys: ApiKeys, owner: Principal, key: Principal
) -> None:
    gone, here = FakeSocket(), FakeSocket()
    handle = registry.register(key, gone.close)
    registry.register(key, here.close)

    registry.release(handle)
    registry.release(handle)
    await api_keys.revoke(owner, key.credential_id)

    assert [(4403, "API key revoked")] == await here.wait()
    assert [] == gone.closings
    registry.release(handle)


async def test_nothing_is_kept_of_sockets_that_are_gone(registry: SocketRegistry, key: Principal) -> None:
    registry.release(registry.register(key, FakeSocket().close))

    assert {} == registry._handles


async def test_a_socket_that_cannot_be_closed_does_not_hold_up_the_others(
    registry: SocketRegistry, api_keys: ApiKeys, owner: Principal, key: Principal
) -> None:
    async def fail(code: int, reason: str) -> None:
        raise RuntimeError

    here = FakeSocket()
    registry.register(key, fail)
    registry.register(key, here.close)

    await api_keys.revoke(owner, key.credential_id)

    assert [(4403, "API key revoked")] == await here.wait()


async def test_closing_the_registry_waits_for_closings(
    bus: Bus, authenticator: Authenticator, activity: Activity, key: Principal
) -> None:
    registry = SocketRegistry(bus, authenticator, activity)
    await registry.close()
    await registry.start()
    begun, go_on = asyncio.Event(), asyncio.Event()
    done = False

    async def close(code: int, reason: str) -> None:
        nonlocal done
        begun.set()
        await go_on.wait()
        done = True

    registry.register(key, close)
    await bus.tell(ACCESS_REVOKED, AccessRevoked(credential_id=str(key.credential_id), reason="x"))
    await asyncio.wait_for(begun.wait(), timeout=5)
    closing = asyncio.create_task(registry.close())
    await until(lambda: registry._sweeping._task is None)
    assert not closing.done()
    go_on.set()
    await asyncio.wait_for(closing, timeout=5)

    assert done


async def test_another_message_closes_nothing(bus: Bus, registry: SocketRegistry, key: Principal) -> None:
    socket = FakeSocket()
    registry.register(key, socket.close)

    await bus.tell(ACCESS_REVOKED, JobNudged(job_id=str(key.credential_id), seq=1))
    await bus.tell(ACCESS_REVOKED, AccessRevoked(credential_id=str(key.credential_id), reason="then this"))

    assert [(4403, "then this")] == await socket.wait()


async def test_the_sweep_finds_what_time_or_a_lost_message_has_ended(
    database: Database, registry: SocketRegistry, owner: Principal, key: Principal
) -> None:
    by_session, by_key = FakeSocket(), FakeSocket()
    await registry.admit(owner, by_session.close)
    await registry.admit(key, by_key.close)
    await registry.sweep()
    assert [] == by_session.closings + by_key.closings

    await database.execute("UPDATE sessions SET expires_at = now()")
    await database.execute("UPDATE api_keys SET expires_at = now()")
    await registry.sweep()

    assert [(4403, "session ended")] == await by_session.wait()
    assert [(4403, "API key expired")] == await by_key.wait()
    await registry.sweep()
    assert 1 == len(by_session.closings)


async def test_whoever_finds_it_a_revoked_key_is_called_revoked(
    database: Database, registry: SocketRegistry, key: Principal
) -> None:
    """The sweep may come before the message."""
    socket = FakeSocket()
    await registry.admit(key, socket.close)
    await database.execute("UPDATE api_keys SET revoked_at = now()")

    await registry.sweep()

    assert [(4403, "API key revoked")] == await socket.wait()


async def test_an_open_socket_counts_as_use(
    database: Database, registry: SocketRegistry, activity: Activity, owner: Principal
) -> None:
    await registry.admit(owner, FakeSocket().close)
    await activity.flush()
    await database.execute("UPDATE sessions SET last_seen_at = now() - interval '60 seconds'")

    await registry.sweep()
    await activity.flush()

    assert await database.fetch("SELECT 1 FROM sessions WHERE last_seen_at > now() - interval '30 seconds'")


async def test_a_bus_that_is_away_does_not_fail_the_revocation(
    monkeypatch: pytest.MonkeyPatch,
    bus: Bus,
    registry: SocketRegistry,
    enter: Enter,
    sessions: Sessions,
    authenticator: Authenticator,
) -> None:
    async def refuse(subject: str, message: object) -> None:
        raise PublishFailed

    done = await enter("a@b.example")
    socket = FakeSocket()
    await registry.admit(await authenticator.authenticate(done.token), socket.close)
    monkeypatch.setattr(bus, "tell", refuse)

    await sessions.end(done.session.id, done.user.id)

    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(done.token)
    # What a replica does when its bus is back.
    await registry._on_reconnect()
    assert [(4403, "session ended")] == await socket.wait()
