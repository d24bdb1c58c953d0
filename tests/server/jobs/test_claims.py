"""Who works on which job."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest

from bus import subjects
from bus.errors import NoAnswer
from bus.memory import MemoryBus
from bus.messages import (
    ClaimJob,
    ClaimSeveralJobs,
    HeartbeatAnswered,
    HeartbeatJob,
    JobClaimed,
    JobClaimRefused,
    JobClaimsAnswered,
)
from server.auth.principal import Principal
from server.ids import new_id
from server.records import JobState, JobStateChangedRecord
from tests.support.jobs import CHUNK_SIZE, HOSTED, Replica, Worker


async def _ask_to_claim(bus: MemoryBus, job_id: UUID | str) -> JobClaimed | JobClaimRefused:
    answer = await bus.ask(
        subjects.JOB_CLAIM, ClaimJob(job_id=str(job_id), worker_id="worker-2"), timeout_s=5
    )
    assert isinstance(answer, JobClaimed | JobClaimRefused)
    return answer


async def _claim_several(bus: MemoryBus, job_ids: Sequence[UUID | str]) -> JobClaimsAnswered:
    question = ClaimSeveralJobs(job_ids=[str(job_id) for job_id in job_ids], worker_id="worker-2")
    answer = await bus.ask(subjects.JOB_CLAIM_SEVERAL, question, timeout_s=5)
    assert isinstance(answer, JobClaimsAnswered)
    return answer


async def _beat(bus: MemoryBus, job_id: UUID | str, attempt: int) -> str:
    answer = await bus.ask(
        subjects.JOB_HEARTBEAT,
        HeartbeatJob(job_id=str(job_id), attempt=attempt, worker_id="worker-1"),
        timeout_s=5,
    )
    assert isinstance(answer, HeartbeatAnswered)
    return answer.verdict


async def _set_state(replica: Replica, job_id: UUID, state: JobState) -> None:
    await replica.db.execute("UPDATE jobs SET state = {} WHERE id = {}", state.value, job_id)


async def test_a_claim_starts_the_job_and_carries_all_a_worker_needs(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 5)

    claimed = await worker.claim(job.id)

    assert (1, [], HOSTED.name) == (claimed.attempt, claimed.done_chunks, claimed.spec.pipeline)
    assert (5, CHUNK_SIZE) == (claimed.spec.item_count, claimed.spec.chunk_size)
    started = await replica.jobs.get(owner.user_id, job.id)
    assert (JobState.RUNNING, 1) == (started.state, started.attempt)
    assert started.started_at is not None


async def test_of_twenty_claims_at_once_each_gets_its_own_attempt_and_the_last_is_current(
    replica: Replica, bus: MemoryBus, owner: Principal
) -> None:
    job = await replica.create(owner, 5)

    answers = await asyncio.gather(*(_ask_to_claim(bus, job.id) for _ in range(20)))

    attempts = [answer.attempt for answer in answers if isinstance(answer, JobClaimed)]
    assert list(range(1, 21)) == sorted(attempts)
    verdicts = [await _beat(bus, job.id, attempt) for attempt in range(1, 21)]
    assert ["superseded"] * 19 + ["continue"] == verdicts


async def test_several_jobs_are_claimed_with_one_question_each_as_it_stands(
    replica: Replica, bus: MemoryBus, worker: Worker, owner: Principal
) -> None:
    first, second, had, ended = [await replica.create(owner, 1) for _ in range(4)]
    await worker.claim(had.id)
    await worker.finish(await worker.claim(ended.id))
    await replica.projection.step()
    stranger = new_id()

    answer = await _claim_several(bus, [first.id, had.id, "nonsense", second.id, ended.id, stranger])

    assert {(first.id, 1), (second.id, 1), (had.id, 2)} == {
        (UUID(one.job_id), one.attempt) for one in answer.claimed
    }
    assert {HOSTED.name} == {one.spec.pipeline for one in answer.claimed}
    assert {("nonsense", "unknown"), (str(ended.id), "finished"), (str(stranger), "unknown")} == {
        (one.job_id, one.reason) for one in answer.refused
    }
    for job, attempt in ((first, 1), (had, 2)):
        row = await replica.jobs.get(owner.user_id, job.id)
        assert (JobState.RUNNING, attempt) == (row.state, row.attempt)
    assert 6 == replica.counted.total("towhee.job.claims") - 2


async def test_claims_of_the_same_jobs_in_any_order_at_once_get_an_attempt_each(
    replica: Replica, bus: MemoryBus, owner: Principal
) -> None:
    jobs = [(await replica.create(owner, 1)).id for _ in range(8)]

    answers = await asyncio.gather(
        *(_claim_several(bus, jobs if number % 2 else jobs[::-1]) for number in range(6))
    )

    for job_id in jobs:
        attempts = [one.attempt for answer in answers for one in answer.claimed if one.job_id == str(job_id)]
        assert [1, 2, 3, 4, 5, 6] == sorted(attempts)


async def test_a_question_about_several_jobs_asked_again_gets_the_attempts_it_got(
    replica: Replica, owner: Principal
) -> None:
    jobs = [str((await replica.create(owner, 1)).id) for _ in range(3)]
    question = ClaimSeveralJobs(job_ids=jobs, worker_id="worker-1")

    first, again = [await replica.claims.claim_several(question) for _ in range(2)]

    assert [1, 1, 1] == [one.attempt for one in first.claimed]
    assert [(one.job_id, one.attempt) for one in first.claimed] == [
        (one.job_id, one.attempt) for one in again.claimed
    ]


async def test_the_history_tells_of_each_claim_in_the_order_of_the_attempts(
    replica: Replica, bus: MemoryBus, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 1)
    await asyncio.gather(*(_ask_to_claim(bus, job.id) for _ in range(5)))
    await worker.finish(await worker.claim(job.id))
    await replica.projection.step()

    history = await replica.history_of(job)

    changes = [
        (record.attempt, record.state) for record in history if isinstance(record, JobStateChangedRecord)
    ]
    running = [(attempt, JobState.RUNNING) for attempt in range(1, 7)]
    assert [(0, JobState.QUEUED), *running, (6, JobState.SUCCEEDED)] == changes


async def test_a_second_attempt_is_told_which_chunks_are_done(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 9)
    first = await worker.claim(job.id)
    await worker.report(first, 3)
    await worker.report(first, 0)
    await replica.projection.step()

    second = await worker.claim(job.id)

    assert (2, [0, 3]) == (second.attempt, second.done_chunks)


@pytest.mark.parametrize("num_before", [0, 1])
async def test_the_same_question_asked_again_gets_the_same_attempt(
    replica: Replica, bus: MemoryBus, worker: Worker, owner: Principal, num_before: int
) -> None:
    job = await replica.create(owner, 9)
    for _ in range(num_before):
        await worker.report(await worker.claim(job.id), 1)
        await replica.projection.step()
    question = ClaimJob(job_id=str(job.id), worker_id="worker-2")

    answers = await asyncio.gather(*(bus.ask(subjects.JOB_CLAIM, question, timeout_s=5) for _ in range(5)))

    claimed = [answer for answer in answers if isinstance(answer, JobClaimed)]
    expected = (num_before + 1, [1] * num_before, num_before)
    assert [expected] * 5 == [(answer.attempt, answer.done_chunks, answer.num_lost) for answer in claimed]
    await worker.finish(claimed[0])
    await replica.projection.step()
    changes = [
        record.state for record in await replica.history_of(job) if isinstance(record, JobStateChangedRecord)
    ]
    running = [JobState.RUNNING] * (num_before + 1)
    assert [JobState.QUEUED, *running, JobState.SUCCEEDED] == changes
    assert isinstance(await bus.ask(subjects.JOB_CLAIM, question, timeout_s=5), JobClaimRefused)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (JobState.CANCELLING, "cancelled"),
        (JobState.CANCELLED, "cancelled"),
        (JobState.SUCCEEDED, "finished"),
        (JobState.FAILED, "finished"),
    ],
)
async def test_there_is_nothing_to_claim_of_a_job_that_has_ended(
    replica: Replica, bus: MemoryBus, owner: Principal, state: JobState, reason: str
) -> None:
    job = await replica.create(owner, 1)
    await _set_state(replica, job.id, state)

    answer = await _ask_to_claim(bus, job.id)

    assert isinstance(answer, JobClaimRefused)
    assert reason == answer.reason
    assert 0 == (await replica.jobs.get(owner.user_id, job.id)).attempt


@pytest.mark.parametrize("job_id", [str(new_id()), "not-an-id", ""])
async def test_a_job_that_nobody_knows_is_refused_as_unknown(
    replica: Replica, bus: MemoryBus, job_id: str
) -> None:
    answer = await _ask_to_claim(bus, job_id)

    assert isinstance(answer, JobClaimRefused)
    assert "unknown" == answer.reason
    assert "superseded" == await _beat(bus, job_id, 1)


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (JobState.RUNNING, "continue"),
        (JobState.CANCELLING, "cancel"),
        (JobState.CANCELLED, "cancel"),
        (JobState.SUCCEEDED, "superseded"),
        (JobState.FAILED, "superseded"),
    ],
)
async def test_a_heartbeat_is_told_whether_to_go_on(
    replica: Replica, bus: MemoryBus, worker: Worker, owner: Principal, state: JobState, verdict: str
) -> None:
    job = await replica.create(owner, 1)
    claimed = await worker.claim(job.id)
    await _set_state(replica, job.id, state)

    assert verdict == await _beat(bus, job.id, claimed.attempt)


async def test_a_heartbeat_of_the_current_attempt_is_a_sign_of_life_and_of_an_older_one_is_not(
    replica: Replica, bus: MemoryBus, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 1)
    await worker.claim(job.id)
    await worker.claim(job.id)
    await replica.db.execute("UPDATE jobs SET heartbeat_at = NULL")

    await _beat(bus, job.id, 1)
    assert [{"heartbeat_at": None}] == await replica.db.fetch("SELECT heartbeat_at FROM jobs")

    await _beat(bus, job.id, 2)
    assert [{"is_alive": True}] == await replica.db.fetch(
        "SELECT heartbeat_at IS NOT NULL AS is_alive FROM jobs"
    )


async def test_claims_and_heartbeats_are_counted(
    replica: Replica, bus: MemoryBus, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 1)
    await worker.claim(job.id)
    await _ask_to_claim(bus, new_id())
    await _beat(bus, job.id, 1)

    assert 1 == replica.counted.total("towhee.job.claims", outcome="claimed")
    assert 1 == replica.counted.total("towhee.job.claims", outcome="unknown")
    assert 1 == replica.counted.total("towhee.job.heartbeats", verdict="continue")


async def test_a_question_of_another_kind_gets_no_answer_and_stops_nothing(
    replica: Replica, bus: MemoryBus, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 1)
    claim = ClaimJob(job_id=str(job.id), worker_id="confused")
    beat = HeartbeatJob(job_id=str(job.id), attempt=1, worker_id="confused")

    for subject, question in ((subjects.JOB_HEARTBEAT, claim), (subjects.JOB_CLAIM, beat)):
        with pytest.raises(NoAnswer):
            await bus.ask(subject, question, timeout_s=5)

    assert 1 == (await worker.claim(job.id)).attempt
