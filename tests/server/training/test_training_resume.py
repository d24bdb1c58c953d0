"""Trainings that have ended and go on."""

import asyncio
from typing import Any
from uuid import UUID

import msgspec
import pytest

from bus.messages import TrainingSpec
from server.auth.principal import Principal, Scope
from server.errors import Conflict, DatasetInvalid, Forbidden, JobFinished, NotFound, QuotaExceeded
from server.field_problems import InvalidParameters
from server.ids import new_id
from server.job_payloads import StateChanged
from server.records import JobState
from server.training_records import TrainingJobRecord
from tests.support.embedding import MakePrincipal
from tests.support.training_rows import INVALID, MAX_TRAININGS, House, train_subject


async def _row(house: House, job_id: UUID) -> dict[str, Any]:
    row = await house.db.fetch_one(
        "SELECT * FROM jobs JOIN training_jobs ON job_id = id JOIN lane_jobs USING (job_id) WHERE id = {}",
        job_id,
    )
    assert row is not None
    return row


async def _ended(
    house: House, owner: Principal, state: JobState = JobState.FAILED, **request: object
) -> TrainingJobRecord:
    """A training that came to step 40 in its third attempt."""
    job = await house.train(owner, **{"max_steps": 100, "seed": 3, **request})
    await house.end(job.id, state, step=40, attempt=3)
    return job


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.FAILED])
async def test_a_training_that_ended_early_waits_again(
    house: House, principal: Principal, state: JobState
) -> None:
    job = await _ended(house, principal, state)

    resumed = await house.jobs.resume(principal, job.id)

    row = await _row(house, job.id)
    assert (JobState.QUEUED, None, None, None) == (
        resumed.state,
        resumed.finished_at,
        resumed.error_code,
        resumed.error_message,
    )
    assert ([1, 2, 3], 2, 3, True) == (row["let_go"], row["publish_number"], row["attempt"], row["is_ready"])
    assert (40, 100) == (resumed.step, resumed.total_steps)
    assert [(train_subject(job.id), f"{job.id}:{number}") for number in (1, 2)] == await house.published(
        job.id
    )
    [event] = await house.db.fetch("SELECT * FROM job_events WHERE job_id = {} AND seq = 2", job.id)
    assert StateChanged(state=JobState.QUEUED, reason="Resumed by its owner.") == msgspec.msgpack.decode(
        event["payload"], type=StateChanged
    )
    assert (3, 2) == (event["attempt"], row["last_seq"])


async def test_new_limits_are_in_the_spec_and_all_else_is_as_it_was(
    house: House, principal: Principal
) -> None:
    job = await _ended(house, principal)
    before = await _row(house, job.id)

    resumed = await house.jobs.resume(principal, job.id, max_steps=200, max_seconds=60)

    spec = msgspec.msgpack.decode((await _row(house, job.id))["spec"], type=TrainingSpec)
    was = msgspec.msgpack.decode(before["spec"], type=TrainingSpec)
    assert msgspec.structs.replace(was, max_steps=200, max_seconds=60) == spec
    assert (200, 3) == (resumed.total_steps, resumed.seed)


async def test_one_that_has_succeeded_goes_on_with_more_steps(house: House, principal: Principal) -> None:
    job = await _ended(house, principal, JobState.SUCCEEDED)

    with pytest.raises(JobFinished):
        await house.jobs.resume(principal, job.id, max_seconds=60)
    resumed = await house.jobs.resume(principal, job.id, max_steps=41)

    assert JobState.QUEUED == resumed.state


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final])
async def test_one_that_has_not_ended_does_not_go_on(
    house: House, principal: Principal, state: JobState
) -> None:
    job = await _ended(house, principal, state)

    with pytest.raises(Conflict) as refused:
        await house.jobs.resume(principal, job.id, max_steps=200)

    assert ("job_id",) == refused.value.path


async def test_limits_out_of_range_change_nothing(house: House, principal: Principal) -> None:
    wrong = [
        ({"max_steps": 40}, "max_steps"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_steps": 10_000_001}, "max_steps"),
        ({"max_steps": 50, "max_seconds": 0}, "max_seconds"),
        ({"max_steps": 50, "max_seconds": 1001}, "max_seconds"),
    ]
    for state in (state for state in JobState if state.is_final):
        job = await _ended(house, principal, state)
        before = await _row(house, job.id)

        for limits, path in wrong:
            with pytest.raises(InvalidParameters) as refused:
                await house.jobs.resume(principal, job.id, **limits)
            assert (path,) == refused.value.path

        assert before == await _row(house, job.id)


async def test_of_many_who_resume_one_does(house: House, principal: Principal) -> None:
    job = await _ended(house, principal)

    outcomes = await asyncio.gather(
        *(house.jobs.resume(principal, job.id) for _ in range(10)), return_exceptions=True
    )

    assert 9 == sum(isinstance(outcome, Conflict) for outcome in outcomes)
    assert 2 == len(await house.published(job.id))


async def test_a_training_that_was_cancelled_before_its_data_set_was_ready_waits_for_it_again(
    house: House, principal: Principal
) -> None:
    dataset = await house.dataset(principal)
    job = await house.train(principal, dataset)
    await house.end(job.id, JobState.CANCELLED, attempt=0)

    resumed = await house.jobs.resume(principal, job.id)

    row = await _row(house, job.id)
    assert (JobState.QUEUED, False, []) == (resumed.state, row["is_ready"], await house.published(job.id))


async def test_a_training_without_its_data_set_or_first_model_can_not_go_on(
    house: House, principal: Principal
) -> None:
    parent = await house.model(principal)
    dataset, invalid = await house.ready(principal), await house.dataset(principal)
    job, begun, failed = [
        await house.train(principal, dataset),
        await house.train(principal, parent_model_id=parent),
        await house.train(principal, invalid),
    ]
    for ended in (job, begun, failed):
        await house.end(ended.id, JobState.FAILED)
    await house.datasets.delete(principal, dataset.id)
    await house.models.delete(principal, parent)
    await house.validate(invalid, **INVALID)

    for gone in (job, begun):
        with pytest.raises(Conflict) as refused:
            await house.jobs.resume(principal, gone.id)
        assert ("job_id",) == refused.value.path
    with pytest.raises(DatasetInvalid):
        await house.jobs.resume(principal, failed.id)


async def test_a_resumed_training_counts_as_an_unfinished_one(house: House, principal: Principal) -> None:
    job = await _ended(house, principal)
    dataset = await house.ready(principal, "other")
    for _ in range(MAX_TRAININGS):
        await house.train(principal, dataset)

    with pytest.raises(QuotaExceeded):
        await house.jobs.resume(principal, job.id)


async def test_who_may_resume(house: House, principal: Principal, make_principal: MakePrincipal) -> None:
    job = await _ended(house, principal)

    with pytest.raises(Forbidden):
        await house.jobs.resume(await make_principal(Scope.READ), job.id)
    with pytest.raises(NotFound) as theirs:
        await house.jobs.resume(await make_principal(), job.id)
    with pytest.raises(NotFound) as unknown:
        await house.jobs.resume(principal, new_id())

    assert (("job_id",), theirs.value.message) == (theirs.value.path, unknown.value.message)
