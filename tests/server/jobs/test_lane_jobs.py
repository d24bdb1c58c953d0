"""What happens around jobs in the lanes of long work: they are put back, cancelled, revived and forgotten."""

import asyncio
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from bus import subjects
from bus.dead_letters import Death
from bus.memory import MemoryBus
from bus.messages import CancelJob, GanParameters, GenerateSamples, TrainModel, ValidateDataset
from bus.objects import ObjectStore
from bus.topology import Limits, data_lane, train_lane
from server.auth.principal import Principal
from server.database import Database
from server.dataset_release import release_overlooked
from server.dead_jobs import DeadJobs
from server.errors import Forbidden, JobFinished, NotFound
from server.ids import model_id_of, new_id
from server.lane_rows import DATASET, GENERATION, TRAINING
from server.records import JobState
from server.retention import Retention
from server.sweeper import Sweeper
from tests.support.jobs import Replica, make_user
from tests.support.training_jobs import (
    DatasetRow,
    LaneWorker,
    Reports,
    add_dataset,
    add_generation,
    add_training,
    states,
    trainer_of,
    validated,
)
from tests.support.waiting import until_true

SILENCE_S = 3 * Limits().ack_wait_s
DAY_S = 24 * 3600.0


@pytest.fixture
def worker(bus: MemoryBus, objects: ObjectStore) -> LaneWorker:
    """A train worker."""
    return LaneWorker(bus, objects)


@pytest.fixture
async def dataset(replica: Replica, owner: Principal) -> DatasetRow:
    """A data set that can be trained on."""
    return await add_dataset(replica.db, owner, is_ready=True)


@pytest.fixture
async def model_id(replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow) -> UUID:
    """A model whose training is over."""
    job_id = await add_training(replica.db, owner, dataset)
    await worker.publish(Reports.of(await worker.claim(job_id)).model(1))
    await replica.projection.step()
    return model_id_of(job_id, 1)


async def _pulled(bus: MemoryBus, consumer: str) -> list[tuple[type, str, int]]:
    deliveries = await bus.puller(consumer).fetch(limit=100, wait_s=0.01)
    for delivery in deliveries:
        await delivery.ack()
    messages = [delivery.message for delivery in deliveries]
    return [
        (type(message), message.job_id, message.publish_number)
        for message in messages
        if isinstance(message, TrainModel | ValidateDataset | GenerateSamples)
    ]


async def _let_pass(db: Database, seconds: float) -> None:
    for table, columns in (("outbox", ["created_at", "sent_at"]), ("jobs", ["created_at", "heartbeat_at"])):
        older = ", ".join(f"{column} = {column} - make_interval(secs => {seconds})" for column in columns)
        await db.execute(f"UPDATE {table} SET {older}")  # noqa: S608 - names of our tables


async def test_a_job_of_any_kind_that_the_bus_lost_is_published_again_as_what_it_is(
    replica: Replica, owner: Principal, bus: MemoryBus, dataset: DatasetRow, model_id: UUID
) -> None:
    training = await add_training(replica.db, owner, dataset)
    waiting = await add_training(
        replica.db, owner, await add_dataset(replica.db, owner), parameters=GanParameters(), is_ready=False
    )
    [row] = await replica.db.fetch("SELECT job_id FROM datasets WHERE status = 'VALIDATING'")
    generation = await add_generation(replica.db, owner, model_id)
    await replica.outbox.relay()
    for consumer in (train_lane("default"), data_lane("default")):
        await _pulled(bus, consumer)
    sweeper = Sweeper(replica.db, wake=lambda: None, meter=replica.counted.meter)

    await _let_pass(replica.db, SILENCE_S + 1)
    await sweeper.sweep()
    await replica.outbox.relay()

    assert [(TrainModel, str(training), 2)] == await _pulled(bus, train_lane("default"))
    assert [(ValidateDataset, str(row["job_id"]), 2), (GenerateSamples, str(generation), 2)] == (
        await _pulled(bus, data_lane("default"))
    )
    assert "QUEUED" == (await states(replica.db))[waiting]
    for lane, count in (("train", 2), ("data", 2)):
        assert count == replica.counted.total("towhee.jobs.open", lane=lane, pool="default", state="QUEUED")


async def test_a_training_that_was_written_as_its_data_set_was_settled_is_released(
    replica: Replica, owner: Principal, bus: MemoryBus, dataset: DatasetRow
) -> None:
    num_woken = 0

    def wake() -> None:
        nonlocal num_woken
        num_woken += 1

    job_id = await add_training(replica.db, owner, dataset, is_ready=False)
    sweeper = Sweeper(replica.db, wake=wake, meter=replica.counted.meter)

    await sweeper.sweep()
    await sweeper.sweep()
    await replica.outbox.relay()

    assert [(TrainModel, str(job_id), 1)] == await _pulled(bus, train_lane("default"))
    assert 1 == num_woken


async def test_two_servers_at_once_release_each_training_once(
    replica: Replica, owner: Principal, dataset: DatasetRow, database_url: str
) -> None:
    jobs = [await add_training(replica.db, owner, dataset, is_ready=False) for _ in range(5)]
    somebody = await asyncpg.connect(database_url)

    async def are_both_waiting() -> bool:
        rows = await replica.db.fetch("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return len(rows) == 2

    async with somebody.transaction():
        await somebody.execute("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE", jobs[0])
        releasing = [asyncio.create_task(release_overlooked(replica.db)) for _ in range(2)]
        await until_true(are_both_waiting)
    released = await asyncio.gather(*releasing)
    await somebody.close()

    assert 5 == sum(one.num_ready for one in released)
    rows = await replica.db.fetch("SELECT job_id FROM outbox WHERE subject LIKE 'job.train.%'")
    assert sorted(jobs) == sorted(row["job_id"] for row in rows)


async def test_a_training_is_cancelled_at_once_or_when_its_worker_has_stopped(
    replica: Replica, worker: LaneWorker, owner: Principal, bus: MemoryBus, dataset: DatasetRow
) -> None:
    told: list[str] = []

    async def hear(message: object) -> None:
        assert isinstance(message, CancelJob)
        told.append(message.job_id)

    await bus.follow(subjects.JOB_CANCELS_ALL, hear)
    principal = trainer_of(owner)
    running, queued = [await add_training(replica.db, owner, dataset) for _ in range(2)]
    claimed = await worker.claim(running)

    cancel = replica.cancellations.cancel
    after = [await cancel(principal, job_id, TRAINING) for job_id in (running, running, queued)]

    assert [JobState.CANCELLING, JobState.CANCELLING, JobState.CANCELLED] == after
    reports = Reports.of(claimed)
    await worker.publish(reports.checkpoint(1), reports.stopped(2))
    await replica.projection.step()
    assert {running: "CANCELLED", queued: "CANCELLED"}.items() <= (await states(replica.db)).items()
    [row] = await replica.db.fetch("SELECT checkpoint FROM training_jobs WHERE job_id = {}", running)
    assert row["checkpoint"] is not None
    assert [str(running)] * 2 == told
    with pytest.raises(JobFinished):
        await cancel(principal, running, TRAINING)


async def test_a_job_is_cancelled_by_its_owner_alone_and_as_what_it_is(
    replica: Replica, owner: Principal, dataset: DatasetRow, model_id: UUID
) -> None:
    training = await add_training(replica.db, owner, dataset)
    generation = await add_generation(replica.db, owner, model_id)
    principal, stranger = trainer_of(owner), trainer_of(await make_user(replica.db))
    cancel = replica.cancellations.cancel

    for who, job_id, kind in (
        (stranger, training, TRAINING),
        (principal, training, GENERATION),
        (principal, generation, TRAINING),
        (principal, new_id(), TRAINING),
    ):
        with pytest.raises(NotFound):
            await cancel(who, job_id, kind)
    with pytest.raises(NotFound):
        await cancel(owner, training)
    with pytest.raises(Forbidden):
        await cancel(owner, training, TRAINING)

    assert JobState.CANCELLED == await cancel(principal, generation, GENERATION)
    assert "QUEUED" == (await states(replica.db))[training]


async def test_a_cancelled_training_whose_worker_is_silent_ends_all_the_same(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    job_id = await add_training(replica.db, owner, dataset)
    await worker.claim(job_id)
    await replica.cancellations.cancel(trainer_of(owner), job_id, TRAINING)
    await replica.db.execute("UPDATE jobs SET heartbeat_at = now() - interval '6 seconds'")

    await replica.cancellations.end_silent()

    assert "CANCELLED" == (await states(replica.db))[job_id]


@pytest.mark.parametrize("kind", [TRAINING, DATASET])
async def test_a_dead_job_of_a_lane_is_put_back_as_what_it_is(
    replica: Replica, worker: LaneWorker, owner: Principal, bus: MemoryBus, kind: str
) -> None:
    new = await add_dataset(replica.db, owner)
    if kind == TRAINING:
        dataset = await add_dataset(replica.db, owner, is_ready=True)
        job_id, consumer = await add_training(replica.db, owner, dataset), train_lane("default")
    else:
        job_id, consumer = new.job_id, data_lane("default")
    await replica.outbox.relay()
    [delivery, *_] = await bus.puller(consumer).fetch(limit=10, wait_s=1)
    claimed = await worker.claim(job_id, "train" if kind == TRAINING else "data")
    await worker.publish(Reports.of(claimed).failed(1, code="INTERNAL"))
    await replica.projection.step()
    await delivery.dead_letter(Death(code="INTERNAL", reason="It has ended three processes.", attempt=1))
    dead_jobs = DeadJobs(replica.db, bus)
    [letter] = await dead_jobs.read()

    said = await dead_jobs.retry(letter.id)
    await replica.outbox.relay()

    assert (job_id, JobState.FAILED) == (letter.job_id, letter.state)
    assert f"job {job_id} is published again under number 2" == said
    command = TrainModel if kind == TRAINING else ValidateDataset
    assert (command, str(job_id), 2) in await _pulled(bus, consumer)
    [row] = await replica.db.fetch("SELECT status FROM datasets WHERE id = {}", new.id)
    assert "VALIDATING" == row["status"]
    assert 2 == (await worker.claim(job_id, "train" if kind == TRAINING else "data")).attempt


class Attic:
    """A sweep that keeps what is younger than a day, and what lies in the object store."""

    def __init__(self, replica: Replica, objects: ObjectStore, folder: Path) -> None:
        self._db = replica.db
        self._objects = objects
        self._folder = folder
        self.sweep = Retention(replica.db, objects, retention_s=DAY_S, meter=replica.counted.meter).sweep

    async def fill(self, *keys: str) -> None:
        """Store something under each key."""
        for key in keys:
            await self._objects.put(key, b"x")

    def keys(self) -> set[str]:
        """Return the keys of all objects."""
        return {
            path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file()
        }

    async def age(self) -> None:
        """Let all that has ended have ended long ago."""
        await self._db.execute("UPDATE jobs SET finished_at = finished_at - interval '2 days'")


@pytest.fixture
def attic(replica: Replica, objects: ObjectStore, tmp_path: Path) -> Attic:
    """What forgets old jobs."""
    return Attic(replica, objects, tmp_path / "objects")


async def test_an_ended_training_goes_with_all_its_objects_unless_it_has_made_a_model(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow, model_id: UUID, attic: Attic
) -> None:
    [row] = await replica.db.fetch("SELECT job_id FROM models")
    with_model = row["job_id"]
    failed, open_job = [await add_training(replica.db, owner, dataset) for _ in range(2)]
    await worker.publish(Reports.of(await worker.claim(failed)).failed(1))
    await replica.projection.step()
    kept = {
        f"jobs/{with_model}/samples/1-1.png",
        f"models/{model_id}/encoder/manifest.json",
        f"jobs/{open_job}/samples/1-1.png",
        f"datasets/{dataset.id}/data.parquet",
    }
    # The failed one had a model half way in the store.
    half = f"models/{model_id_of(failed, 1)}/encoder/manifest.json"
    await attic.fill(*kept, f"jobs/{failed}/checkpoints/1-1/state", half)
    await attic.age()

    await attic.sweep()

    assert kept == attic.keys()
    left = await states(replica.db)
    assert {with_model: "SUCCEEDED", open_job: "QUEUED"} == left
    assert 1 == len(await replica.db.fetch("SELECT id FROM datasets"))
    assert 0 == len(await replica.db.fetch("SELECT seq FROM job_events WHERE job_id = {}", failed))


async def test_what_a_model_has_made_stays_when_the_job_that_made_it_goes(
    replica: Replica, worker: LaneWorker, owner: Principal, model_id: UUID, attic: Attic
) -> None:
    done, failed = [await add_generation(replica.db, owner, model_id) for _ in range(2)]
    for job_id in (done, failed):
        reports = Reports.of(await worker.claim(job_id, "data"))
        await worker.publish(reports.made(1) if job_id == done else reports.failed(1))
    await replica.projection.step()
    await attic.fill(f"generated/{done}/0000.png", f"generated/{failed}/0000.png", f"jobs/{done}/log")
    await attic.age()

    await attic.sweep()

    assert {f"generated/{done}/0000.png"} == attic.keys()
    assert not {done, failed} & (await states(replica.db)).keys()
    assert 2 == len(await replica.db.fetch("SELECT id FROM files"))


async def test_a_data_set_outlives_the_job_that_has_looked_at_it(
    replica: Replica, worker: LaneWorker, owner: Principal, attic: Attic
) -> None:
    dataset = await add_dataset(replica.db, owner)
    await worker.claim(dataset.job_id, "data")
    await worker.publish(validated(dataset))
    await replica.projection.step()
    await attic.fill(f"datasets/{dataset.id}/data.parquet")
    await attic.age()

    await attic.sweep()

    assert {} == await states(replica.db)
    [row] = await replica.db.fetch("SELECT status, job_id FROM datasets")
    assert {"status": "READY", "job_id": None} == row
    assert {f"datasets/{dataset.id}/data.parquet"} == attic.keys()
