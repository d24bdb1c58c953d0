"""A job can be cancelled at any time, and ends once."""

import asyncio
import random

import pytest

from bus import subjects
from bus.errors import BusUnavailable
from bus.memory import MemoryBus
from bus.messages import CancelJob, JobAttemptLetGo
from bus.requests import claim, heartbeat
from server.auth.principal import Principal
from server.errors import Forbidden, JobFinished, NotFound
from server.ids import new_id
from server.job_cancellations import JobCancellations
from server.records import EmbeddingJobRecord, ItemEmbeddedRecord, JobState, JobStateChangedRecord
from tests.support.jobs import Replica, Worker, make_user, num_chunks

CANCELLED_BY_OWNER = "Cancelled by its owner."


async def _changes(replica: Replica, job: EmbeddingJobRecord) -> list[tuple[JobState, str | None]]:
    return [
        (record.state, record.reason)
        for record in await replica.history_of(job)
        if isinstance(record, JobStateChangedRecord)
    ]


def _let_go(job_id: str, attempt: int) -> JobAttemptLetGo:
    return JobAttemptLetGo(job_id=job_id, attempt=attempt, reason="cancelled")


async def test_a_waiting_job_is_cancelled_at_once_and_is_not_worked_on(
    replica: Replica, bus: MemoryBus, owner: Principal
) -> None:
    job = await replica.create(owner, 3)

    cancelled = await replica.cancellations.cancel(owner, job.id)

    assert JobState.CANCELLED == cancelled.state
    assert cancelled.finished_at is not None
    answer = await claim(bus, str(job.id), worker_id="worker-1")
    assert "cancelled" == getattr(answer, "reason", None)
    assert [
        (JobState.QUEUED, None),
        (JobState.CANCELLED, CANCELLED_BY_OWNER),
    ] == await _changes(replica, job)


async def test_a_running_job_is_cancelled_when_its_worker_has_let_go_and_keeps_what_was_counted(
    replica: Replica, bus: MemoryBus, worker: Worker, owner: Principal
) -> None:
    told: asyncio.Queue[object] = asyncio.Queue()
    hear = told.put

    await bus.follow(subjects.JOB_CANCELS_ALL, hear)
    job = await replica.create(owner, 6)
    claimed = await worker.claim(job.id)
    await worker.report(claimed, 0)
    await replica.projection.step()

    assert JobState.CANCELLING == (await replica.cancellations.cancel(owner, job.id)).state
    order = await asyncio.wait_for(told.get(), 1)
    assert isinstance(order, CancelJob)
    assert str(job.id) == order.job_id
    assert "cancel" == (await heartbeat(bus, str(job.id), attempt=1, worker_id="worker-1")).verdict
    # It was in hand when the order came.
    await worker.report(claimed, 1)
    await worker.publish(_let_go(claimed.job_id, 1))
    await worker.report(claimed, 2)
    await replica.projection.step()

    ended = await replica.jobs.get(owner.user_id, job.id)
    assert (JobState.CANCELLED, 4) == (ended.state, ended.completed_count)
    assert ended.finished_at is not None
    assert [
        (JobState.QUEUED, None),
        (JobState.RUNNING, None),
        (JobState.CANCELLING, CANCELLED_BY_OWNER),
        (JobState.CANCELLED, "The worker has stopped."),
    ] == await _changes(replica, job)
    items = [one.index for one in await replica.history_of(job) if isinstance(one, ItemEmbeddedRecord)]
    assert [0, 1, 2, 3] == items


async def test_a_job_whose_worker_is_silent_is_cancelled_all_the_same(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    silent, spoken = await replica.create(owner, 2), await replica.create(owner, 2)
    for job in (silent, spoken):
        await worker.claim(job.id)
        await replica.cancellations.cancel(owner, job.id)
    await replica.db.execute(
        "UPDATE jobs SET heartbeat_at = now() - interval '6 seconds' WHERE id = {}", silent.id
    )

    await replica.cancellations.end_silent()

    states = {job.id: (await replica.jobs.get(owner.user_id, job.id)).state for job in (silent, spoken)}
    assert {silent.id: JobState.CANCELLED, spoken.id: JobState.CANCELLING} == states
    assert (JobState.CANCELLED, "Nobody was heard to work on it any more.") == (
        await _changes(replica, silent)
    )[-1]


async def test_the_order_is_not_needed(
    replica: Replica, bus: MemoryBus, worker: Worker, owner: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broadcast is lost; the heartbeat's answer carries it."""
    job = await replica.create(owner, 2)
    await worker.claim(job.id)

    async def lose(*_: object) -> None:
        raise BusUnavailable("away")

    with monkeypatch.context() as away:
        away.setattr(MemoryBus, "tell", lose)
        assert JobState.CANCELLING == (await replica.cancellations.cancel(owner, job.id)).state

    assert "cancel" == (await heartbeat(bus, str(job.id), attempt=1, worker_id="worker-1")).verdict


async def test_cancelling_twice_is_telling_twice_and_one_line_of_history(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 2)
    claimed = await worker.claim(job.id)

    states = [(await replica.cancellations.cancel(owner, job.id)).state for _ in range(2)]
    await worker.publish(_let_go(claimed.job_id, 1))
    await replica.projection.step()

    assert [JobState.CANCELLING] * 2 == states
    assert 1 == [state for state, _ in await _changes(replica, job)].count(JobState.CANCELLING)
    with pytest.raises(JobFinished, match="CANCELLED"):
        await replica.cancellations.cancel(owner, job.id)


async def test_who_may_not_see_a_job_may_not_cancel_it(replica: Replica, owner: Principal) -> None:
    job = await replica.create(owner, 1)

    for principal, job_id in ((await make_user(replica.db), job.id), (owner, new_id())):
        with pytest.raises(NotFound):
            await replica.cancellations.cancel(principal, job_id)
    reader = Principal(user_id=owner.user_id, credential_id=new_id(), kind=owner.kind, scopes=frozenset())
    with pytest.raises(Forbidden):
        await replica.cancellations.cancel(reader, job.id)
    assert JobState.QUEUED == (await replica.jobs.get(owner.user_id, job.id)).state


@pytest.mark.parametrize("seed", range(6))
async def test_cancellation_against_completion_ends_in_exactly_one_final_state(
    replica: Replica, other: Replica, worker: Worker, owner: Principal, seed: int
) -> None:
    """Claims, reports, last words, cancellations and the sweep of the silent, all at once, on PostgreSQL."""
    chance = random.Random(seed)  # noqa: S311 - it is to repeat itself
    job = await replica.create(owner, 8)
    claimed = await worker.claim(job.id)
    await replica.projection.start()
    await other.projection.start()
    hasty = JobCancellations(other.db, other.bus, meter=other.counted.meter, silence_s=0.0)

    async def report(chunk: int) -> None:
        await asyncio.sleep(chance.random() / 50)
        await worker.report(claimed, chunk)

    async def cancel(cancellations: JobCancellations) -> JobState | None:
        await asyncio.sleep(chance.random() / 50)
        try:
            return (await cancellations.cancel(owner, job.id)).state
        except JobFinished:
            return None

    async def let_go() -> None:
        await asyncio.sleep(chance.random() / 25)
        await worker.publish(_let_go(claimed.job_id, 1))

    answers, *_ = await asyncio.gather(
        asyncio.gather(*(cancel(one.cancellations) for one in (replica, other, replica))),
        let_go(),
        hasty.end_silent(),
        *(report(chunk) for chunk in range(num_chunks(8))),
    )
    await hasty.end_silent()

    changes = [state for state, _ in await _changes(replica, job)]
    await other.projection.close()
    finals = [state for state in changes if state.is_final]
    was_told = any(answer is not None for answer in answers)
    assert [JobState.CANCELLED if was_told else JobState.SUCCEEDED] == finals
    assert finals == changes[-1:]
    items = [one.index for one in await replica.history_of(job) if isinstance(one, ItemEmbeddedRecord)]
    assert len(items) == len(set(items))
    assert len(items) == (await replica.jobs.get(owner.user_id, job.id)).completed_count


async def test_attempts_that_were_let_go_are_not_lost_ones(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    """Whoever claims is told how many processes died on the job."""
    job = await replica.create(owner, 2)
    first = await worker.claim(job.id)
    second = await worker.claim(job.id)
    for attempt in (1, 1):
        await worker.publish(JobAttemptLetGo(job_id=str(job.id), attempt=attempt, reason="handed_back"))
    await replica.projection.step()

    third = await worker.claim(job.id)

    assert [0, 1, 1] == [first.num_lost, second.num_lost, third.num_lost]
    assert JobState.RUNNING == (await replica.jobs.get(owner.user_id, job.id)).state
