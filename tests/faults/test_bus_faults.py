"""What the connection does when the server is late, away, frozen, strict or rude."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg

from bus import channel, client, connection, provision, pull, subjects, topology
from bus.client import NatsBus
from bus.connection import Connection
from bus.envelope import Message
from bus.errors import (
    BusError,
    BusUnavailable,
    ConsumerGone,
    NoAnswer,
    NotPermitted,
    NotSettled,
    PublishFailed,
    TopologyRefused,
)
from bus.messages import JobClaimRefused, JobNudged
from bus.topology import Topology, apply
from deploy.local.child import Child, ChildOptions, start_child
from deploy.local.nats import LocalNats, find_free_port, find_server
from tests.bus.contract_bus import CLAIM, Inbox, fetch_all, fetch_one, job, numbers_of, subject_of
from tests.support.bus import QUIET

TABLE = Topology.for_pools(["default"])
BULK = topology.embed_bulk("default")


class Server:
    """A nats-server that may be killed, frozen and started again."""

    def __init__(self, local: LocalNats, directory: Path) -> None:
        self._local = local
        self._child: Child | None = None
        self.config = directory / "nats-server.conf"
        self.log = directory / "nats-server.log"
        self.url = local.url

    @property
    def child(self) -> Child:
        assert self._child is not None
        return self._child

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._child = await self._local.start(options=ChildOptions(output=log.fileno()))

    async def kill(self) -> None:
        await self.child.stop(0.0)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.child.pid, number)

    async def rewrite(self, change: Callable[[str], str]) -> None:
        """Change the configuration; it is in force when this returns."""
        before = self._num_reloads()
        self.config.write_text(change(self.config.read_text()))
        self.send(signal.SIGHUP)
        await eventually(lambda: self._has_reloaded(before))

    async def _has_reloaded(self, before: int) -> bool:
        return self._num_reloads() > before

    def _num_reloads(self) -> int:
        return self.log.read_text().count("Reloaded server configuration")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    local = Server(LocalNats(tmp_path), tmp_path)
    await local.start()
    await apply(local.url, TABLE)
    yield local
    if local.child.returncode is None:
        local.send(signal.SIGCONT)
    await local.child.stop(5.0)


@pytest.fixture
async def nats(server: Server) -> AsyncIterator[NatsBus]:
    bus = await NatsBus.connect(server.url, name="test")
    yield bus
    await bus.close()


async def eventually(condition: Callable[[], Awaitable[bool]], *, within_s: float = 15.0) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {within_s:g} s"
        await asyncio.sleep(0.02)


async def test_connecting_waits_for_a_server_that_starts(tmp_path: Path) -> None:
    local = LocalNats(tmp_path)
    connecting = asyncio.create_task(NatsBus.connect(local.url, name="early"))
    await asyncio.wait({connecting}, timeout=0.1)
    assert not connecting.done()

    child = await local.start(options=QUIET)

    bus = await asyncio.wait_for(connecting, 10.0)
    assert await bus.is_connected()
    await bus.close()
    await child.stop(5.0)


async def test_giving_up_on_a_server_leaves_nothing_behind(tmp_path: Path) -> None:
    before = asyncio.all_tasks()

    with pytest.raises(BusUnavailable, match="no bus at 127"):
        await NatsBus.connect(LocalNats(tmp_path).url, name="early", patience_s=0.2)

    assert before == asyncio.all_tasks()


@pytest.mark.parametrize("url", ["nats://[", "nats://:4222"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BusUnavailable, match="no bus at"):
        await NatsBus.connect(url, name="lost", patience_s=1.0)


async def test_a_publish_outlasts_a_restart_and_is_stored_once(server: Server, nats: NatsBus) -> None:
    await server.kill()
    publishing = asyncio.create_task(nats.publish(subject_of(1), job(1)))
    await asyncio.wait({publishing}, timeout=0.2)
    assert not publishing.done()

    await server.start()

    await asyncio.wait_for(publishing, 15.0)
    puller = nats.puller(BULK)
    assert numbers_of([await fetch_one(puller)]) == [1]
    assert await puller.fetch(limit=1, wait_s=0.1) == []


async def test_a_publish_into_a_lost_stream_waits_until_it_is_there_again(
    server: Server, nats: NatsBus
) -> None:
    """A restarted server has no stream in memory until the topology is applied again."""
    await server.kill()
    await server.start()
    publishing = asyncio.create_task(nats.publish(subjects.interactive("default"), job(1)))
    await asyncio.wait({publishing}, timeout=0.5)
    assert not publishing.done()

    assert "create stream INTERACTIVE (memory, work queue, embed.interactive.>)" in await apply(
        server.url, TABLE
    )

    await asyncio.wait_for(publishing, 15.0)
    assert numbers_of([await fetch_one(nats.puller(topology.embed_interactive("default")))]) == [1]


async def test_a_publish_gives_up_at_its_deadline(server: Server, nats: NatsBus) -> None:
    await server.kill()

    with pytest.raises(PublishFailed, match=r"within 0\.3 s"):
        await asyncio.wait_for(nats.publish(subject_of(1), job(1), deadline_s=0.3), 5.0)


async def test_a_publish_to_an_impossible_subject_fails_at_once(nats: NatsBus) -> None:
    with pytest.raises(PublishFailed, match="invalid subject"):
        await asyncio.wait_for(nats.publish("job.embed.has space", job(1), deadline_s=60.0), 5.0)


async def test_a_waiting_fetch_outlasts_a_restart(
    server: Server, nats: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It must not be the end of its pull that makes it ask again.
    monkeypatch.setattr(pull, "EXPIRES_S", 60.0)
    fetching = asyncio.create_task(nats.puller(BULK).fetch(limit=1, wait_s=60.0))
    await asyncio.wait({fetching}, timeout=0.1)

    await server.kill()
    await server.start()
    await nats.publish(subject_of(1), job(1))

    assert numbers_of(await asyncio.wait_for(fetching, 15.0)) == [1]


async def test_a_fetch_without_a_connection_returns_nothing(server: Server, nats: NatsBus) -> None:
    puller = nats.puller(BULK)
    await puller.fetch(limit=1, wait_s=0.01)
    await server.kill()

    assert await asyncio.wait_for(puller.fetch(limit=1, wait_s=0.3), 5.0) == []


async def test_an_ack_outlasts_a_restart(server: Server, nats: NatsBus) -> None:
    """A proper one: a server that was killed may have forgotten whom it delivered to."""
    await nats.publish(subject_of(1), job(1))
    delivery = await fetch_one(nats.puller(BULK))
    await server.child.stop(10.0)
    acking = asyncio.create_task(delivery.ack())
    await asyncio.wait({acking}, timeout=0.1)

    await server.start()

    await asyncio.wait_for(acking, 15.0)
    assert await nats.puller(BULK).fetch(limit=1, wait_s=0.1) == []


async def test_an_ack_that_is_never_confirmed_says_so(
    server: Server, nats: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "SETTLE_S", 0.2)
    monkeypatch.setattr(pull, "SETTLE_ATTEMPT_S", 0.1)
    await nats.publish(subject_of(1), job(1))
    delivery = await fetch_one(nats.puller(BULK))
    await server.kill()

    with pytest.raises(NotSettled):
        await delivery.in_progress()
    with pytest.raises(NotSettled):
        await delivery.ack()


async def test_followers_and_answers_outlast_a_restart(server: Server, nats: NatsBus) -> None:
    async def answer(_: Message) -> Message:
        return JobClaimRefused(job_id="1", reason="finished")

    heard, back = Inbox(), asyncio.Event()

    async def note() -> None:
        back.set()

    await nats.follow(subjects.job_nudged("1"), heard)
    await nats.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)
    nats.on_reconnect(note)

    await server.kill()
    await server.start()

    await asyncio.wait_for(back.wait(), 15.0)
    await nats.tell(subjects.job_nudged("1"), JobNudged(job_id="1", seq=1))
    await heard.until(1)
    assert isinstance(await nats.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=5.0), JobClaimRefused)


async def test_a_question_without_a_connection_has_no_answer(server: Server, nats: NatsBus) -> None:
    await server.kill()
    await eventually(lambda: _is_lost(nats))

    with pytest.raises(NoAnswer):
        await asyncio.wait_for(nats.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=0.2), 5.0)


async def _is_lost(bus: NatsBus) -> bool:
    return not await bus.is_connected()


async def test_a_follower_without_a_connection_is_told_so(
    server: Server, nats: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LISTEN_S", 0.2)
    await server.kill()
    await eventually(lambda: _is_disconnected(nats))

    with pytest.raises(BusUnavailable, match="no connection"):
        await nats.follow(subjects.job_nudged("1"), Inbox())


async def _is_disconnected(bus: NatsBus) -> bool:
    return not bus._connection._connected.is_set()


async def test_an_impossible_subject_cannot_be_followed(nats: NatsBus) -> None:
    with pytest.raises(BusError, match="invalid subject"):
        await nats.follow("nudge.has space", Inbox())


async def test_telling_is_never_in_the_way_of_an_outage(server: Server, nats: NatsBus) -> None:
    """What is told waits in the connection, up to a limit, and arrives when the server is back."""
    heard = Inbox()
    await nats.follow(subjects.job_nudged("1"), heard)
    await server.kill()
    await eventually(lambda: _is_lost(nats))

    await nats.tell(subjects.job_nudged("1"), JobNudged(job_id="1", seq=1))
    large = [
        nats.tell(subjects.job_nudged("1"), JobNudged(job_id="x" * 100_000, seq=seq)) for seq in range(30)
    ]
    with pytest.raises(BusUnavailable, match="buffer limit"):
        await asyncio.gather(*large)

    await server.start()
    await heard.until(1)


async def test_a_frozen_server_is_noticed_and_its_late_answers_do_no_harm(
    server: Server, nats: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-py's reader dies of a pong that comes after its flush has timed out."""
    monkeypatch.setattr(client, "ROUND_TRIP_S", 0.1)
    puller = nats.puller(BULK)
    await puller.fetch(limit=1, wait_s=0.01)
    server.send(signal.SIGSTOP)
    await eventually(lambda: _is_lost(nats))
    assert await puller.fetch(limit=5, wait_s=0.1) == []
    monkeypatch.setattr(connection, "LISTEN_S", 0.1)
    monkeypatch.setattr(connection, "DRAIN_S", 0.1)
    with pytest.raises(BusUnavailable, match="no answer"):
        await nats.follow(subjects.job_nudged("1"), Inbox())
    listening = asyncio.create_task(nats.follow(subjects.job_nudged("1"), Inbox()))
    await asyncio.wait({listening}, timeout=0.1)
    listening.cancel()
    await asyncio.wait({listening}, timeout=0.1)

    server.send(signal.SIGCONT)

    # Well before a connection without a reader would be replaced.
    async with asyncio.timeout(3.0):
        await nats.publish(subject_of(1), job(1))
        assert await nats.is_connected()
        # Perhaps it was delivered to the pull of the fetch that had given up, and is handed back.
        assert numbers_of([await fetch_one(puller)]) == [1]
    await asyncio.wait_for(asyncio.wait({listening}), 5.0)


async def test_a_socket_that_closed_under_the_client_is_no_connection(
    nats: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ROUND_TRIP_S", 0.2)
    transport = nats._connection._client._transport
    assert transport is not None
    transport.close()  # type: ignore[no-untyped-call]

    assert not await nats.is_connected()
    await eventually(nats.is_connected)


async def test_leaving_a_frozen_server_takes_its_time_but_ends(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await NatsBus.connect(server.url, name="leaving")
    await bus.puller(BULK).fetch(limit=1, wait_s=0.01)
    monkeypatch.setattr(client, "ROUND_TRIP_S", 0.1)
    monkeypatch.setattr(connection, "CONNECT_S", 0.2)
    monkeypatch.setattr(connection, "DRAIN_S", 0.2)
    server.send(signal.SIGSTOP)
    await eventually(lambda: _is_lost(bus))

    await asyncio.wait_for(bus.close(), 5.0)


async def test_a_missing_consumer_is_named_and_found_when_it_is_there(
    server: Server, nats: NatsBus, caplog: pytest.LogCaptureFixture
) -> None:
    puller = nats.puller(topology.embed_bulk("late"))
    with pytest.raises(ConsumerGone, match="embed_bulk_late: 503"), caplog.at_level(logging.WARNING):
        await puller.fetch(limit=1, wait_s=0.3)
    assert caplog.text.count("503") == 1, "logged once, not at each pull"

    await apply(server.url, Topology.for_pools(["late"]))
    await nats.publish(subjects.embed_job("late", "1"), job(1))

    assert numbers_of([await fetch_one(puller)]) == [1]


async def test_a_consumer_deleted_under_a_fetch_is_named(server: Server, nats: NatsBus) -> None:
    other = await Connection.open(server.url, name="operator")
    fetching = asyncio.create_task(nats.puller(BULK).fetch(limit=1, wait_s=0.6))
    await asyncio.wait({fetching}, timeout=0.1)

    await other.request(f"$JS.API.CONSUMER.DELETE.JOBS.{BULK}", b"", timeout_s=5.0)

    with pytest.raises(ConsumerGone, match=r"409 Consumer Deleted|503"):
        await fetching
    await other.close()


async def test_a_server_that_falls_silent_under_a_fetch_is_noticed_long_before_the_pull_would_end(
    server: Server, nats: NatsBus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pull, "HEARTBEAT_S", 0.1)
    puller = nats.puller(BULK)
    assert isinstance(puller, pull.NatsPuller)
    fetching = asyncio.create_task(puller.fetch(limit=1, wait_s=60.0))
    await asyncio.wait({fetching}, timeout=1.0)
    # Heard of all the time, so not given up.
    assert puller._num_pulls == 1

    server.send(signal.SIGSTOP)
    async with asyncio.timeout(2.0):
        while f"{BULK}: no sign of life" not in caplog.text:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.01)
    server.send(signal.SIGCONT)

    await nats.publish(subject_of(1), job(1))
    assert numbers_of(await asyncio.wait_for(fetching, 5.0)) == [1]
    assert caplog.text.count("no sign of life") == 1, "logged once, not at each pull"


async def test_a_fetch_that_is_cancelled_when_its_work_arrives_hands_it_back(nats: NatsBus) -> None:
    for number in range(10):
        puller = nats.puller(BULK)
        assert isinstance(puller, pull.NatsPuller)
        fetching = asyncio.create_task(puller.fetch(limit=5, wait_s=60.0))
        await asyncio.wait({fetching}, timeout=0.01)
        await nats.publish(subject_of(number), job(number))
        async with asyncio.timeout(5.0):
            while not (puller._ready or fetching.done()):  # noqa: ASYNC110 - each turn of the loop counts
                await asyncio.sleep(0)
            fetching.cancel()
            await asyncio.wait({fetching})
            deliveries = [] if fetching.cancelled() else fetching.result()
            delivery = (deliveries or [await fetch_one(nats.puller(BULK))])[0]
        assert numbers_of([delivery]) == [number]
        await delivery.ack()


async def test_more_work_than_was_asked_for_goes_to_others(nats: NatsBus) -> None:
    """The pull of a cancelled fetch may still bring a whole window to a worker that has room for one."""
    for number in range(5):
        await nats.publish(subject_of(number), job(number))
    leased = await nats.puller(BULK).fetch(limit=5, wait_s=1.0)
    puller = nats.puller(BULK)
    cancelled = asyncio.create_task(puller.fetch(limit=5, wait_s=60.0))
    await asyncio.wait({cancelled}, timeout=0.05)
    cancelled.cancel()
    fetching = asyncio.create_task(puller.fetch(limit=1, wait_s=5.0))

    # All five are due at the same moment.
    await asyncio.gather(*(delivery.nak(delay_s=0.3) for delivery in leased))

    mine = await fetching
    others = await fetch_all(nats.puller(BULK), 4)
    assert len(mine) == 1
    assert sorted(numbers_of(mine + others)) == [0, 1, 2, 3, 4]


async def test_work_that_arrives_while_a_puller_closes_is_handed_back(nats: NatsBus) -> None:
    """Many rounds, because the race is between the server's delivery and our unsubscribing."""
    for number in range(10):
        puller = nats.puller(BULK)
        fetching = asyncio.create_task(puller.fetch(limit=1, wait_s=60.0))
        await asyncio.wait({fetching}, timeout=0.01)
        await asyncio.gather(nats.publish(subject_of(number), job(number)), puller.close())
        async with asyncio.timeout(5.0):
            delivery = (await fetching or [await fetch_one(nats.puller(BULK))])[0]
        assert numbers_of([delivery]) == [number]
        await delivery.ack()


def _restrict(text: str) -> str:
    lines = text.splitlines()
    (line,) = [line for line in lines if line.startswith("authorization")]
    user, password = "user: towhee", line.split('"')[1]
    permissions = 'permissions: { publish: ["nudge.>", "_INBOX.>"], subscribe: ["_INBOX.>"] }'
    restricted = f'authorization {{ users: [ {{ {user}, password: "{password}", {permissions} }} ] }}'
    return "\n".join(restricted if one == line else one for one in lines)


async def test_what_a_credential_may_not_do_is_refused_at_the_call(server: Server) -> None:
    """The server answers such calls with an error that belongs to no request."""
    await server.rewrite(_restrict)
    bus = await NatsBus.connect(server.url, name="restricted")

    async def calls() -> AsyncIterator[Awaitable[object]]:
        yield bus.publish(subject_of(1), job(1))
        # Two refusals of one subject: each of them is heard by both.
        yield asyncio.gather(*(bus.publish(subject_of(1), job(1)) for _ in range(2)))
        yield bus.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=60.0)
        yield bus.follow(subjects.ACCESS_REVOKED, Inbox())
        yield bus.puller(BULK).fetch(limit=1, wait_s=60.0)

    async with asyncio.timeout(10.0):
        async for call in calls():
            with pytest.raises(NotPermitted):
                await call
    await bus.tell(subjects.job_nudged("1"), JobNudged(job_id="1", seq=1))
    assert await bus.is_connected()
    with pytest.raises(NotPermitted):
        await apply(server.url, TABLE)
    await bus.close()


async def test_a_credential_that_is_withdrawn_and_granted_again_is_no_end(
    server: Server, nats: NatsBus
) -> None:
    heard, back = Inbox(), asyncio.Event()

    async def note() -> None:
        back.set()

    await nats.follow(subjects.job_nudged("1"), heard)
    nats.on_reconnect(note)
    await server.rewrite(lambda text: text.replace("user: towhee", "user: somebody"))
    await eventually(lambda: _is_lost(nats))
    with pytest.raises(PublishFailed):
        await nats.publish(subject_of(1), job(1), deadline_s=0.2)

    await server.rewrite(lambda text: text.replace("user: somebody", "user: towhee"))

    await asyncio.wait_for(back.wait(), 15.0)
    await nats.tell(subjects.job_nudged("1"), JobNudged(job_id="1", seq=1))
    await heard.until(1)


async def test_a_credential_that_may_not_hear_answers_is_refused_when_it_connects(server: Server) -> None:
    await server.rewrite(
        lambda text: _restrict(text).replace('subscribe: ["_INBOX.>"]', 'subscribe: ["nudge.>"]')
    )

    with pytest.raises(NotPermitted, match="_inbox"):
        await NatsBus.connect(server.url, name="deaf")


async def test_a_connection_that_nats_py_has_given_up_is_opened_again(
    server: Server, nats: NatsBus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After most errors the server names, nats-py closes for good: here after a word that is no protocol."""
    monkeypatch.setattr(connection, "LISTEN_S", 0.3)
    monkeypatch.setattr(connection, "REOPEN_WAIT_S", 0.05)
    heard, back = Inbox(), asyncio.Event()

    async def note() -> None:
        back.set()

    await nats.follow(subjects.job_nudged("1"), heard)
    puller = nats.puller(BULK)
    await puller.fetch(limit=1, wait_s=0.01)
    nats.on_reconnect(note)
    monkeypatch.setattr(nats._connection, "_url", f"nats://127.0.0.1:{find_free_port()}")
    await nats._connection._client._send_command(b"NONSENSE\r\n")
    await nats._connection._client.publish("wake.up")
    await eventually(lambda: _has_logged(caplog, "cannot connect again"))
    with pytest.raises(NoAnswer):
        await nats.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=0.5)
    with pytest.raises(BusUnavailable, match="closed"):
        await nats.tell(subjects.job_nudged("1"), JobNudged(job_id="1", seq=1))

    monkeypatch.setattr(nats._connection, "_url", server.url)

    await asyncio.wait_for(back.wait(), 15.0)
    await nats.tell(subjects.job_nudged("1"), JobNudged(job_id="1", seq=1))
    await heard.until(1)
    await nats.publish(subject_of(1), job(1))
    assert numbers_of([await fetch_one(puller)]) == [1]


async def _has_logged(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.text


async def test_a_follower_that_cannot_keep_up_loses_messages_and_that_is_counted(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channel, "MAX_PENDING_MESSAGES", 5)
    opened = await Connection.open(server.url, name="slow")
    bus = NatsBus(opened)
    go_on = asyncio.Event()

    async def slow(_: object) -> None:
        await go_on.wait()

    await opened.listen(subjects.job_nudged("1"), slow)
    for _ in range(50):
        await opened.publish(subjects.job_nudged("1"), b"x")

    async def lost() -> bool:
        return bus.num_dropped >= 40

    await eventually(lost)
    go_on.set()
    assert caplog.text.count("messages lost") == 1
    await opened.close()


async def test_a_stream_without_a_leader_is_asked_again_under_the_same_message_id(
    server: Server, nats: NatsBus
) -> None:
    """In a cluster such an answer passes; here a stranger gives it in the place of a stream."""
    stranger = await Connection.open(server.url, name="stranger")
    message_ids: list[str] = []

    async def reply(message: Msg) -> None:
        message_ids.append((message.headers or {})["Nats-Msg-Id"])
        busy = b'{"error": {"code": 503, "err_code": 10008, "description": "no leader"}}'
        stored = b'{"stream": "NUDGES", "seq": 1}'
        await message.respond(busy if len(message_ids) == 1 else stored)

    await stranger.listen(subjects.job_nudged("1"), reply)

    await nats.publish(subjects.job_nudged("1"), JobNudged(job_id="1", seq=1))

    assert len(message_ids) == 2
    assert len(set(message_ids)) == 1
    await stranger.close()


@pytest.fixture
async def plain_url(tmp_path: Path) -> AsyncIterator[str]:
    """A nats-server without JetStream."""
    port = find_free_port()
    argv = [str(find_server()), "--addr", "127.0.0.1", "--port", str(port)]
    child = await start_child(argv, env=dict(os.environ), cwd=tmp_path, options=QUIET)
    yield f"nats://127.0.0.1:{port}"
    await child.stop(5.0)


async def test_a_server_without_jetstream_takes_no_topology(
    plain_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provision, "_PATIENCE_S", 0.3)

    with pytest.raises(BusUnavailable, match=r"STREAM\.INFO\.JOBS"):
        await apply(plain_url, TABLE)


async def test_a_refusal_to_say_what_is_there_is_passed_on(plain_url: str) -> None:
    stranger = await Connection.open(plain_url, name="stranger")

    async def reply(message: Msg) -> None:
        await message.respond(b'{"error": {"code": 400, "err_code": 10025, "description": "bad request"}}')

    await stranger.listen("$JS.API.STREAM.INFO.>", reply)

    with pytest.raises(TopologyRefused, match="stream JOBS: bad request"):
        await apply(plain_url, TABLE)
    await stranger.close()


async def test_the_topology_waits_for_a_server_that_is_not_ready(plain_url: str) -> None:
    """In a cluster it may have to wait for a leader; here a stranger answers in its place."""
    stranger = await Connection.open(plain_url, name="stranger")
    num_asked = 0

    async def reply(message: Msg) -> None:
        nonlocal num_asked
        num_asked += 1
        busy = b'{"error": {"code": 503, "err_code": 10008, "description": "no leader"}}'
        known = b'{"config": {"name": "JOBS"}}'
        await message.respond(busy if num_asked == 1 else known)

    await stranger.listen("$JS.API.STREAM.>", reply)
    table = msgspec.structs.replace(TABLE, consumers=(), streams=TABLE.streams[:1])

    (line,) = await apply(plain_url, table)

    assert "max_age unset -> 604800 s" in line
    assert num_asked == 3
    await stranger.close()
