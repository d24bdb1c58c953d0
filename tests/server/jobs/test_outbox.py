"""From the outbox to the bus, and back into the outbox what the bus has lost."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bus.errors import PublishFailed
from bus.memory import MemoryBus
from bus.messages import EmbedJob
from bus.objects import ObjectStore
from bus.topology import JOBS, Limits, Topology, embed_bulk
from server import sweeper
from server.auth.principal import Principal
from server.database import Database
from server.sweeper import Sweeper
from tests.support.jobs import MAX_OPEN_OF_USER, Replica, Worker

SILENCE_S = 3 * Limits().ack_wait_s


async def _pulled(bus: MemoryBus) -> list[tuple[str, int]]:
    """Take all that waits on the bus: job and number of the publication."""
    deliveries = await bus.puller(embed_bulk("default")).fetch(limit=1000, wait_s=0.01)
    for delivery in deliveries:
        await delivery.ack()
    messages = [delivery.message for delivery in deliveries]
    return [(message.job_id, message.publish_number) for message in messages if isinstance(message, EmbedJob)]


async def _num_unsent(db: Database) -> int:
    [row] = await db.fetch("SELECT count(*) AS num FROM outbox WHERE sent_at IS NULL")
    return int(row["num"])


async def _let_pass(db: Database, seconds: float) -> None:
    """Make everything in the database so much older."""
    for table, columns in (("outbox", ["created_at", "sent_at"]), ("jobs", ["created_at", "heartbeat_at"])):
        assignments = ", ".join(
            f"{column} = {column} - make_interval(secs => {seconds})" for column in columns
        )
        await db.execute(f"UPDATE {table} SET {assignments}")  # noqa: S608 - names of our tables


async def test_a_row_is_published_and_marked_once_the_bus_has_it(
    replica: Replica, owner: Principal, bus: MemoryBus
) -> None:
    job = await replica.create(owner, 1)
    assert 1 == await _num_unsent(replica.db)

    await replica.outbox.relay()

    assert 0 == await _num_unsent(replica.db)
    assert [(str(job.id), 1)] == await _pulled(bus)


@pytest.fixture
async def patient(database: Database, bus: MemoryBus, objects: ObjectStore) -> AsyncIterator[Replica]:
    """A replica whose relay looks only when it is woken."""
    patient = Replica(database, bus, objects, poll_s=3600)
    await patient.start()
    yield patient
    await patient.close()


async def test_creating_a_job_wakes_the_relay_of_its_process(patient: Replica, owner: Principal) -> None:
    await patient.create(owner, 1)
    await patient.outbox.start()
    await _until_sent(patient.db)

    await patient.create(owner, 1)

    await _until_sent(patient.db)


async def test_what_another_process_committed_is_found_by_the_slow_poll(
    replica: Replica, patient: Replica, owner: Principal
) -> None:
    await patient.create(owner, 1)
    await replica.outbox.start()
    await _until_sent(replica.db)

    await patient.create(owner, 1)

    await _until_sent(replica.db)


async def test_the_relay_looks_again_when_the_bus_is_back(
    patient: Replica, owner: Principal, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = asyncio.Event()

    async def fail(*_: object, **__: object) -> None:
        refused.set()
        raise PublishFailed("the bus is away")

    with monkeypatch.context() as away:
        away.setattr(bus, "publish", fail)
        await patient.outbox.start()
        await patient.create(owner, 1)
        await asyncio.wait_for(refused.wait(), 5)

    await bus.restart()

    await _until_sent(patient.db)


async def test_a_crash_before_the_mark_publishes_again_and_the_bus_swallows_it(
    replica: Replica, owner: Principal, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await replica.create(owner, 1)

    async def crash(*_: object) -> None:
        raise RuntimeError("the process dies here")

    with monkeypatch.context() as dying:
        dying.setattr(replica.outbox, "_mark", crash)
        with pytest.raises(RuntimeError):
            await replica.outbox.relay()
    assert (1, 1) == (bus.count(JOBS), await _num_unsent(replica.db))

    await replica.outbox.relay()

    assert (1, 0) == (bus.count(JOBS), await _num_unsent(replica.db))
    assert [(str(job.id), 1)] == await _pulled(bus)


async def test_many_relays_at_once_publish_each_row_once(
    replica: Replica, owner: Principal, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [await replica.create(owner, 1) for _ in range(MAX_OPEN_OF_USER)]
    published: list[str] = []
    publish = bus.publish

    async def slowly(subject: str, message: EmbedJob, *, message_id: str, deadline_s: float) -> None:
        published.append(message_id)
        # The others get their turn while this row is locked.
        await asyncio.sleep(0)
        await publish(subject, message, message_id=message_id, deadline_s=deadline_s)

    monkeypatch.setattr(bus, "publish", slowly)
    await asyncio.gather(*(replica.outbox.relay() for _ in range(4)))

    assert sorted(f"{job.id}:1" for job in jobs) == sorted(published)
    assert 0 == await _num_unsent(replica.db)


async def test_rows_wait_while_the_stream_is_full_and_go_out_in_order(
    database: Database, owner: Principal, objects: ObjectStore
) -> None:
    bus = MemoryBus(Topology.for_pools(["default"], limits=Limits(jobs_max_messages=2)))
    replica = Replica(database, bus, objects)
    await replica.start()
    jobs = [await replica.create(owner, 1) for _ in range(5)]

    sent: list[tuple[str, int]] = []
    for unsent in (3, 1, 0):
        await replica.outbox.relay()
        assert unsent == await _num_unsent(database)
        sent += await _pulled(bus)

    assert [(str(job.id), 1) for job in jobs] == sent
    assert 2 == replica.counted.total("towhee.outbox.failures", error="StreamFull")
    await replica.close()


async def test_a_row_that_the_bus_never_takes_does_not_hold_up_the_others(
    replica: Replica, owner: Principal, bus: MemoryBus
) -> None:
    lost, sound = await replica.create(owner, 1), await replica.create(owner, 1)
    await replica.db.execute("UPDATE outbox SET message = {} WHERE job_id = {}", b"?", lost.id)

    await replica.outbox.relay()

    assert [(str(sound.id), 1)] == await _pulled(bus)
    assert 1 == replica.counted.total("towhee.outbox.failures", error="MalformedMessage")


class Silence:
    """A sweeper, and time that passes without a word about any job."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.num_woken = 0
        self.sweeper = Sweeper(replica.db, wake=self._wake, meter=replica.counted.meter)

    def _wake(self) -> None:
        self.num_woken += 1

    async def passes(self, seconds: float) -> list[tuple[str, int]]:
        """Let time pass, sweep, relay, and return what came out on the bus."""
        await _let_pass(self._replica.db, seconds)
        await self.sweeper.sweep()
        await self._replica.outbox.relay()
        assert isinstance(self._replica.bus, MemoryBus)
        return await _pulled(self._replica.bus)


async def test_a_job_that_the_bus_lost_is_published_again_under_a_new_number(
    replica: Replica, owner: Principal, bus: MemoryBus
) -> None:
    job = await replica.create(owner, 1)
    await replica.outbox.relay()
    silence = Silence(replica)
    # The bus takes it, and then loses it.
    await _pulled(bus)

    assert [] == await silence.passes(SILENCE_S - 1)
    assert [(str(job.id), 2)] == await silence.passes(2)
    assert 1 == silence.num_woken
    assert [] == await silence.passes(0)
    assert 1 == replica.counted.total("towhee.job.republished")


async def test_a_job_that_stays_silent_is_published_ever_more_rarely(
    replica: Replica, owner: Principal, bus: MemoryBus
) -> None:
    job = await replica.create(owner, 1)
    await replica.outbox.relay()
    await _pulled(bus)
    silence = Silence(replica)

    for number in range(2, 8):
        wait_s = SILENCE_S * 2 ** (number - 2)
        assert [] == await silence.passes(wait_s - 1)
        assert [(str(job.id), number)] == await silence.passes(2)


async def test_a_sign_of_life_starts_the_wait_anew(
    replica: Replica, worker: Worker, owner: Principal, bus: MemoryBus
) -> None:
    job = await replica.create(owner, 1)
    await replica.outbox.relay()
    await _pulled(bus)
    silence = Silence(replica)
    assert [(str(job.id), 2)] == await silence.passes(SILENCE_S + 1)

    assert [] == await silence.passes(SILENCE_S)
    # Its worker dies right after the claim.
    await worker.claim(job.id)

    assert [] == await silence.passes(SILENCE_S - 1)
    assert [(str(job.id), 3)] == await silence.passes(2)


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELLED", "CANCELLING"])
async def test_a_job_that_has_ended_is_left_alone(replica: Replica, owner: Principal, state: str) -> None:
    await replica.create(owner, 1)
    await replica.outbox.relay()
    await replica.db.execute("UPDATE jobs SET state = {}", state)
    silence = Silence(replica)
    await silence.passes(0)

    assert [] == await silence.passes(100 * SILENCE_S)


async def test_what_has_not_even_left_the_outbox_is_not_put_there_twice(
    replica: Replica, owner: Principal
) -> None:
    job = await replica.create(owner, 1)

    assert [(str(job.id), 1)] == await Silence(replica).passes(100 * SILENCE_S)


async def test_open_jobs_are_counted_by_pool_and_state_until_there_are_none(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    silence = Silence(replica)
    jobs = [await replica.create(owner, 1) for _ in range(3)]
    claimed = await worker.claim(jobs[0].id)

    def num_open(state: str) -> float:
        return replica.counted.total("towhee.jobs.open", pool="default", state=state)

    await silence.sweeper.sweep()
    assert [2, 1] == [num_open(state) for state in ("QUEUED", "RUNNING")]

    await worker.finish(claimed)
    await replica.projection.step()
    await silence.sweeper.sweep()
    assert [2, 0] == [num_open(state) for state in ("QUEUED", "RUNNING")]


async def test_sweepers_at_once_put_a_job_back_once(
    replica: Replica, owner: Principal, bus: MemoryBus
) -> None:
    jobs = [await replica.create(owner, 1) for _ in range(3)]
    await replica.outbox.relay()
    await _pulled(bus)
    await _let_pass(replica.db, SILENCE_S + 1)

    await asyncio.gather(*(Silence(replica).sweeper.sweep() for _ in range(5)))
    await replica.outbox.relay()

    assert sorted((str(job.id), 2) for job in jobs) == sorted(await _pulled(bus))


async def _until_sent(db: Database) -> None:
    async with asyncio.timeout(5):
        while True:
            if await _num_unsent(db) == 0:
                return
            await asyncio.sleep(0.005)


async def test_one_sweep_puts_every_lost_job_back_however_many_they_are(
    replica: Replica, owner: Principal, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the bus is the loss of every job on it: they must not come back by the batch."""
    monkeypatch.setattr(sweeper, "_BATCH", 2)
    jobs = [await replica.create(owner, 1) for _ in range(5)]
    await replica.outbox.relay()
    await _pulled(bus)

    assert {(str(job.id), 2) for job in jobs} == set(await Silence(replica).passes(37.0))
