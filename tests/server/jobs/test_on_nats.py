"""The durable half on a real NATS server, with two replicas that share nothing but it and the database."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from uuid import UUID

import pytest

from bus import subjects
from bus.client import NatsBus
from bus.messages import EmbedJob, ItemsEmbedded
from bus.objects import ObjectStore
from bus.port import Delivery
from bus.topology import PROJECTION, data_lane, embed_bulk, train_lane
from server.auth.principal import Principal
from server.database import Database
from server.lane_rows import TRAINING
from server.records import (
    EmbeddingJobRecord,
    ItemEmbeddedRecord,
    JobEventRecord,
    JobState,
    JobStateChangedRecord,
)
from tests.support.jobs import Replica, Worker, num_chunks
from tests.support.training_jobs import LaneWorker, Reports, add_dataset, add_training, validated
from tests.support.waiting import until_true

ITEM_COUNT = 25


@pytest.fixture
async def replicas(
    database: Database, database_url: str, nats_bus: NatsBus, nats_url: str, objects: ObjectStore
) -> AsyncIterator[list[Replica]]:
    """Two running server processes, each with connections of its own; no slow poll helps them."""
    other_bus = await NatsBus.connect(nats_url, name="other")
    other_database = await Database.open(database_url)
    replicas = [
        Replica(database, nats_bus, objects, poll_s=3600),
        Replica(other_database, other_bus, objects, poll_s=3600),
    ]
    for replica in replicas:
        await replica.start()
        await replica.projection.start()
        await replica.outbox.start()
    yield replicas
    for replica in replicas:
        await replica.close()
    await other_database.close()
    await other_bus.close()


@pytest.fixture
def worker(nats_bus: NatsBus, objects: ObjectStore) -> Worker:
    """An embedding worker."""
    return Worker(nats_bus, objects)


async def _next_command(bus: NatsBus, *, wait_s: float = 5.0) -> list[EmbedJob]:
    puller = bus.puller(embed_bulk("default"))
    deliveries = await puller.fetch(limit=10, wait_s=wait_s)
    for delivery in deliveries:
        await delivery.ack()
    await puller.close()
    return [delivery.message for delivery in deliveries if isinstance(delivery.message, EmbedJob)]


async def _history(replica: Replica, job: EmbeddingJobRecord) -> list[JobEventRecord]:
    return [record async for record in replica.history.subscribe(job.user_id, job.id)]


async def test_a_job_created_at_one_replica_is_followed_at_the_other_to_its_end(
    replicas: list[Replica], worker: Worker, owner: Principal, nats_bus: NatsBus
) -> None:
    here, there = replicas
    job = await here.create(owner, ITEM_COUNT)
    before = [asyncio.create_task(_history(replica, job)) for replica in replicas for _ in range(3)]

    commands = await _next_command(nats_bus)
    assert [(str(job.id), 1)] == [(command.job_id, command.publish_number) for command in commands]
    first = await worker.claim(job.id)
    for chunk in (5, 0, 7):
        await worker.report(first, chunk)
    second = await worker.claim(job.id)
    for chunk in random.sample(range(num_chunks(ITEM_COUNT)), num_chunks(ITEM_COUNT)):
        for claimed in (first, second, second):
            await worker.report(claimed, chunk)

    async with asyncio.timeout(20):
        histories = await asyncio.gather(*before, _history(there, job))
    cursors = [[record.cursor for record in history] for history in histories]
    assert [cursors[0]] * 7 == cursors
    embedded = [record.index for record in histories[0] if isinstance(record, ItemEmbeddedRecord)]
    assert list(range(ITEM_COUNT)) == sorted(embedded)
    ended = await there.jobs.get(owner.user_id, job.id)
    assert (JobState.SUCCEEDED, ITEM_COUNT, 2) == (ended.state, ended.completed_count, ended.attempt)


async def test_twenty_claims_shared_by_two_replicas_get_twenty_attempts(
    replicas: list[Replica], worker: Worker, owner: Principal
) -> None:
    job = await replicas[0].create(owner, 1)

    claims = await asyncio.gather(*(worker.claim(job.id) for _ in range(20)))

    assert list(range(1, 21)) == sorted(claimed.attempt for claimed in claims)
    assert 20 == sum(replica.counted.total("towhee.job.claims", outcome="claimed") for replica in replicas)


async def test_what_a_relay_published_before_it_died_is_swallowed_the_second_time(
    replicas: list[Replica], owner: Principal, nats_bus: NatsBus
) -> None:
    job = await replicas[0].create(owner, 1)
    assert 1 == len(await _next_command(nats_bus))

    # As if the mark had never been written.
    await replicas[0].db.execute("UPDATE outbox SET sent_at = NULL")
    await replicas[1].outbox.relay()

    assert [] == await _next_command(nats_bus, wait_s=0.2)
    assert [] == await replicas[0].db.fetch("SELECT id FROM outbox WHERE sent_at IS NULL")
    assert JobState.QUEUED == (await replicas[0].jobs.get(owner.user_id, job.id)).state


async def test_reports_that_a_dead_projection_had_committed_come_again_and_change_nothing(
    database: Database, worker: Worker, owner: Principal, nats_bus: NatsBus, objects: ObjectStore
) -> None:
    replica = Replica(database, nats_bus, objects)
    await replica.start()
    job = await replica.create(owner, 4)
    await worker.finish(await worker.claim(job.id))
    dying = nats_bus.puller(PROJECTION)
    deliveries: list[Delivery] = []
    async with asyncio.timeout(5):
        while len(deliveries) < num_chunks(4):
            deliveries += await dying.fetch(limit=10, wait_s=1)
    reports = [one.message for one in deliveries if isinstance(one.message, ItemsEmbedded)]
    await replica.projection._project({str(job.id): reports})
    for delivery in deliveries:
        await delivery.nak()
    await dying.close()

    await replica.projection.start()

    history = await asyncio.wait_for(_history(replica, job), 5)
    assert 4 == sum(isinstance(record, ItemEmbeddedRecord) for record in history)
    async with asyncio.timeout(5):
        while True:
            if replica.counted.total("towhee.job.reports", outcome="late") == num_chunks(4):
                break
            await asyncio.sleep(0.005)
    await replica.close()


async def test_subscribers_who_leave_take_their_bus_subscription_with_them(
    replicas: list[Replica], owner: Principal, nats_bus: NatsBus
) -> None:
    here = replicas[0]
    job = await here.create(owner, 1)
    subject = subjects.job_nudged(str(job.id))

    def num_channels() -> int:
        return sum(channel.subject == subject for channel in nats_bus._connection._channels)

    async with aclosing(here.history.subscribe(owner.user_id, job.id)) as first:
        async with aclosing(here.history.subscribe(owner.user_id, job.id)) as second:
            await anext(first)
            await anext(second)
            assert 1 == num_channels()
        assert 1 == num_channels()

    assert 0 == num_channels()
    assert here.history.is_idle


async def test_two_hundred_subscribers_of_one_job_cost_the_bus_one_subscription_per_process(
    replicas: list[Replica], worker: Worker, owner: Principal
) -> None:
    job = await replicas[0].create(owner, 4)
    subject = subjects.job_nudged(str(job.id))

    def num_channels(replica: Replica) -> int:
        assert isinstance(replica.bus, NatsBus)
        return sum(channel.subject == subject for channel in replica.bus._connection._channels)

    async with AsyncExitStack() as stack:
        subscribers = [
            await stack.enter_async_context(aclosing(replica.history.subscribe(owner.user_id, job.id)))
            for replica in replicas
            for _ in range(200)
        ]
        await asyncio.gather(*map(anext, subscribers))
        assert [1, 1] == [num_channels(replica) for replica in replicas]

        await worker.finish(await worker.claim(job.id))
        async with asyncio.timeout(20):
            histories = await asyncio.gather(*map(_rest, subscribers))

    cursors = [[record.cursor for record in history] for history in histories]
    assert [cursors[0]] * 400 == cursors
    assert 4 == sum(isinstance(record, ItemEmbeddedRecord) for record in histories[0])


async def _rest(subscriber: AsyncIterator[JobEventRecord]) -> list[JobEventRecord]:
    return [record async for record in subscriber]


async def test_a_training_waits_for_its_data_set_and_then_runs_to_its_end_on_either_replica(
    replicas: list[Replica], owner: Principal, nats_bus: NatsBus, objects: ObjectStore
) -> None:
    here, there = replicas
    trainer = LaneWorker(nats_bus, objects)
    dataset = await add_dataset(here.db, owner)
    job_id = await add_training(there.db, owner, dataset, is_ready=False)
    here.outbox.wake()
    reading = [
        asyncio.create_task(_events_of_training(replica, owner, job_id))
        for replica in replicas
        for _ in range(3)
    ]

    puller = nats_bus.puller(data_lane("default"))
    [token] = await puller.fetch(limit=10, wait_s=5)
    await trainer.claim(dataset.job_id, "data")
    await trainer.publish(validated(dataset))
    await puller.close()
    await token.ack()
    puller = nats_bus.puller(train_lane("default"))
    [token] = await puller.fetch(limit=10, wait_s=5)
    await puller.close()
    assert f"{job_id}:1" == token.headers["Nats-Msg-Id"]
    first = await trainer.claim(job_id)
    reports = Reports.of(first)
    await trainer.publish(*(reports.progress(number) for number in (3, 1, 2, 2)), reports.checkpoint(4))

    async def has_let_go() -> bool:
        return await trainer.let_go(first, 4) == "done"

    await until_true(has_let_go)
    second = Reports.of(await trainer.claim(job_id))
    await trainer.publish(second.progress(1), reports.progress(5), second.model(2))

    histories = await asyncio.wait_for(asyncio.gather(*reading), 20)
    await token.ack()
    assert [histories[0]] * 6 == histories
    assert [
        (0, "QUEUED"),
        (1, "RUNNING"),
        *[(1, "TrainingProgressedRecord")] * 3,
        (1, "CheckpointSavedRecord"),
        (1, "QUEUED"),
        (2, "RUNNING"),
        (2, "TrainingProgressedRecord"),
        (2, "ModelExportedRecord"),
        (2, "SUCCEEDED"),
    ] == histories[0]


async def _events_of_training(replica: Replica, owner: Principal, job_id: UUID) -> list[tuple[int, str]]:
    return [
        (record.attempt, record.state if isinstance(record, JobStateChangedRecord) else type(record).__name__)
        async for record in replica.history.subscribe(owner.user_id, job_id, kind=TRAINING)
    ]
