"""What an operator does about jobs that were given up."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from bus import subjects
from bus.dead_letters import Death
from bus.memory import MemoryBus
from bus.messages import EmbedJob
from bus.requests import claim
from bus.topology import JOBS, embed_bulk
from server.auth.principal import Principal
from server.dead_jobs import DeadJobs
from server.dead_letters import DeadLetterMover
from server.errors import Conflict, NotFound
from server.records import EmbeddingJobRecord, JobState, JobStateChangedRecord
from tests.support.jobs import Counted, Replica, Worker

DEATH = Death(code="INTERNAL", reason="Input 3 has ended it.", attempt=3)


@pytest.fixture
def dead_jobs(replica: Replica, bus: MemoryBus) -> DeadJobs:
    return DeadJobs(replica.db, bus)


Bury = Callable[[], Awaitable[EmbeddingJobRecord]]


@pytest.fixture
def bury(replica: Replica, bus: MemoryBus, worker: Worker, owner: Principal) -> Bury:
    """Make a job that has failed for what it does to processes."""

    async def make() -> EmbeddingJobRecord:
        job = await replica.create(owner, 2)
        await replica.outbox.relay()
        [delivery] = await bus.puller(embed_bulk("default")).fetch(limit=1, wait_s=1)
        for _ in range(3):
            claimed = await worker.claim(job.id)
        await worker.give_up(claimed, DEATH.reason)
        await replica.projection.step()
        await replica.db.execute("UPDATE jobs SET error_code = 'INTERNAL' WHERE id = {}", job.id)
        await delivery.dead_letter(DEATH)
        return job

    return make


async def test_a_dead_job_is_shown_with_its_state_and_why(dead_jobs: DeadJobs, bury: Bury) -> None:
    assert [] == await dead_jobs.read()
    job = await bury()

    [record] = await dead_jobs.read()

    assert (1, job.id, JobState.FAILED) == (record.id, record.job_id, record.state)
    assert ("INTERNAL", DEATH.reason, 3, 1) == (
        record.code,
        record.reason,
        record.attempt,
        record.num_delivered,
    )
    assert [] == await dead_jobs.read(after=record.id)


async def test_a_retried_job_is_published_again_under_a_new_number_and_can_succeed(
    replica: Replica, bus: MemoryBus, worker: Worker, dead_jobs: DeadJobs, bury: Bury
) -> None:
    job = await bury()

    said = await dead_jobs.retry(1)

    assert f"job {job.id} is published again under number 2" == said
    assert [] == await dead_jobs.read()
    queued = await replica.jobs.get(job.user_id, job.id)
    assert (JobState.QUEUED, None, None) == (queued.state, queued.error_code, queued.finished_at)
    await replica.outbox.relay()
    [delivery] = await bus.puller(embed_bulk("default")).fetch(limit=1, wait_s=1)
    assert f"{job.id}:2" == delivery.headers["Nats-Msg-Id"]
    claimed = await worker.claim(job.id)
    # Still suspect: it is worked on alone from the start.
    assert (4, 2) == (claimed.attempt, claimed.num_lost)
    await worker.finish(claimed)
    await replica.projection.step()
    changes = [
        (one.state, one.reason)
        for one in await replica.history_of(job)
        if isinstance(one, JobStateChangedRecord)
    ]
    assert [
        (JobState.FAILED, DEATH.reason),
        (JobState.QUEUED, "Put back by an operator."),
        (JobState.RUNNING, "Attempt 4 has taken over."),
        (JobState.SUCCEEDED, None),
    ] == changes[-4:]


async def test_a_job_that_failed_for_another_reason_starts_without_suspicion(
    replica: Replica, bus: MemoryBus, dead_jobs: DeadJobs, bury: Bury
) -> None:
    job = await bury()
    await replica.db.execute("UPDATE jobs SET error_code = 'PIPELINE_UNAVAILABLE'")

    await dead_jobs.retry(1)

    assert 0 == getattr(await claim(bus, str(job.id), worker_id="worker-1"), "num_lost", None)


async def test_a_dropped_letter_is_gone_and_its_job_stays_failed(
    replica: Replica, dead_jobs: DeadJobs, bury: Bury
) -> None:
    job = await bury()

    await dead_jobs.drop(1)

    assert [] == await dead_jobs.read()
    assert JobState.FAILED == (await replica.jobs.get(job.user_id, job.id)).state
    for act in (dead_jobs.drop, dead_jobs.retry):
        with pytest.raises(NotFound, match="no dead job 1"):
            await act(1)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.CANCELLED, JobState.CANCELLING])
async def test_a_job_that_has_ended_otherwise_is_not_put_back(
    replica: Replica, dead_jobs: DeadJobs, bury: Bury, state: JobState
) -> None:
    job = await bury()
    await replica.db.execute("UPDATE jobs SET state = {} WHERE id = {}", state.value, job.id)

    with pytest.raises(Conflict, match=f"is {state}: drop 1"):
        await dead_jobs.retry(1)

    assert 1 == len(await dead_jobs.read())


async def test_a_job_that_was_deleted_can_only_be_dropped(
    replica: Replica, dead_jobs: DeadJobs, bury: Bury
) -> None:
    await bury()
    await replica.db.execute("DELETE FROM jobs")

    assert [None] == [record.state for record in await dead_jobs.read()]
    with pytest.raises(NotFound, match="drop 1"):
        await dead_jobs.retry(1)


async def test_what_is_about_no_job_is_published_as_it_was(bus: MemoryBus, dead_jobs: DeadJobs) -> None:
    newer = msgspec.msgpack.encode({"tag": "embedding.embed_job.v9"})
    bus.put_raw(subjects.embed_job("default", "1"), newer)
    puller = bus.puller(embed_bulk("default"))
    for _ in range(3):
        assert [] == await puller.fetch(limit=1, wait_s=0.01)
        bus.advance(61)
    [record] = await dead_jobs.read()
    assert ("unknown-schema", None) == (record.code, record.job_id)

    said = await dead_jobs.retry(record.id)

    assert "published again on job.embed.default.1" == said
    assert (1, []) == (bus.count(JOBS), await dead_jobs.read())


async def test_the_mover_takes_what_was_delivered_too_often_and_its_job_is_not_lost(
    replica: Replica, owner: Principal, bus: MemoryBus, dead_jobs: DeadJobs
) -> None:
    counted = Counted()
    mover = DeadLetterMover(bus, meter=counted.meter)
    spec = bus._consumers[embed_bulk("default")]
    bus._consumers[spec.name] = msgspec.structs.replace(spec, max_deliver=1)
    job = await replica.create(owner, 1)
    await replica.outbox.relay()
    [delivery] = await bus.puller(spec.name).fetch(limit=1, wait_s=1)
    assert isinstance(delivery.message, EmbedJob)
    await delivery.nak()

    await asyncio.wait_for(mover.move(), 5)

    assert 1 == counted.total("towhee.dead_letters.moved")
    [record] = await dead_jobs.read()
    assert ("max-deliveries", job.id, JobState.QUEUED) == (record.code, record.job_id, record.state)
    assert "number 2" in await dead_jobs.retry(record.id)
    await mover.close()
