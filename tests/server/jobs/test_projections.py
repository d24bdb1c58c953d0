"""What workers report becomes history, exactly once."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from bus import subjects
from bus.errors import NotSettled
from bus.memory import MemoryBus
from bus.memory_streams import MemoryDelivery
from bus.messages import ClaimJob, ItemsEmbedded, JobAttemptFailed
from bus.topology import JOB_EVENTS, PROJECTION, Limits
from server.auth.principal import Principal
from server.database import Database
from server.errors import ErrorCode
from server.ids import new_id
from server.records import (
    EmbeddingJobRecord,
    ItemEmbeddedRecord,
    ItemFailedRecord,
    JobEventRecord,
    JobState,
    JobStateChangedRecord,
    UsageRecord,
)
from tests.support.jobs import Replica, Worker, num_chunks


def _indices(history: Sequence[JobEventRecord]) -> list[int]:
    return [record.index for record in history if isinstance(record, ItemEmbeddedRecord | ItemFailedRecord)]


async def _state(replica: Replica, job: EmbeddingJobRecord) -> JobState:
    return (await replica.jobs.get(job.user_id, job.id)).state


async def test_chunks_in_any_order_become_each_index_once(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 9)
    claimed = await worker.claim(job.id)
    for chunk in random.sample(range(num_chunks(9)), num_chunks(9)):
        await worker.report(claimed, chunk)

    await replica.projection.step()

    assert list(range(9)) == sorted(_indices(await replica.history_of(job)))
    ended = await replica.jobs.get(owner.user_id, job.id)
    assert (JobState.SUCCEEDED, 9, 0) == (ended.state, ended.completed_count, ended.failed_count)
    assert ended.finished_at is not None


async def test_a_report_that_comes_again_changes_nothing(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 6)
    claimed = await worker.claim(job.id)
    report = await worker.compute(claimed, 1)
    for _ in range(3):
        await worker.publish(report)
    await replica.projection.step()
    await worker.publish(report)
    await replica.projection.step()

    await worker.finish(claimed)
    await replica.projection.step()

    assert list(range(6)) == sorted(_indices(await replica.history_of(job)))
    assert 4 == replica.counted.total("towhee.job.reports", outcome="duplicate")
    assert 6 == (await replica.jobs.get(owner.user_id, job.id)).completed_count


async def test_a_worker_that_was_overtaken_is_not_believed(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 4)
    slow = await worker.claim(job.id)
    await worker.report(slow, 0)
    await replica.projection.step()
    late_report = await worker.compute(slow, 1)
    current = await worker.claim(job.id)

    await worker.publish(late_report)
    await worker.give_up(slow, "I was slow.")
    await replica.projection.step()

    assert JobState.RUNNING == await _state(replica, job)
    assert 2 == replica.counted.total("towhee.job.reports", outcome="stale")

    await worker.finish(current)
    await replica.projection.step()
    history = await replica.history_of(job)
    attempts = {record.index: record.attempt for record in history if isinstance(record, ItemEmbeddedRecord)}
    assert {0: 1, 1: 1, 2: 2, 3: 2} == attempts


async def test_two_projections_at_once_count_everything_once(
    replica: Replica, other: Replica, worker: Worker, owner: Principal, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [await replica.create(owner, 40) for _ in range(3)]
    claims = [await worker.claim(job.id) for job in jobs]
    await replica.projection.start()
    await other.projection.start()

    reports = [(claimed, chunk) for claimed in claims for chunk in [*range(num_chunks(40))] * 2]
    random.shuffle(reports)
    for claimed, chunk in reports:
        await worker.report(claimed, chunk)

    for job in jobs:
        assert list(range(40)) == sorted(_indices(await replica.history_of(job)))
        ended = await replica.jobs.get(owner.user_id, job.id)
        assert (JobState.SUCCEEDED, 40) == (ended.state, ended.completed_count)
    await other.projection.close()
    # They waited for each other; neither had to give up and start again.
    assert "given back" not in caplog.text


async def test_a_projection_that_dies_between_commit_and_acknowledgement_does_no_harm(
    replica: Replica, worker: Worker, owner: Principal, bus: MemoryBus
) -> None:
    job = await replica.create(owner, 4)
    claimed = await worker.claim(job.id)
    await worker.finish(claimed)
    puller = bus.puller(PROJECTION)
    first_try = await puller.fetch(limit=10, wait_s=1)
    reports = [delivery.message for delivery in first_try]
    assert [ItemsEmbedded] * 2 == [type(report) for report in reports]
    await replica.projection._project(
        {str(job.id): [report for report in reports if isinstance(report, ItemsEmbedded)]}
    )

    # Never acknowledged, so the bus gives them to the next one.
    for delivery in first_try:
        await delivery.nak()
    await replica.projection.step()

    assert list(range(4)) == sorted(_indices(await replica.history_of(job)))
    assert 2 == replica.counted.total("towhee.job.reports")
    assert 2 == replica.counted.total("towhee.job.reports", outcome="late")
    assert [] == await puller.fetch(limit=10, wait_s=0.01)


async def test_reports_that_can_not_be_acknowledged_come_again_and_change_nothing(
    replica: Replica, worker: Worker, owner: Principal, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await replica.create(owner, 4)
    await worker.finish(await worker.claim(job.id))

    async def fail(_: MemoryDelivery, *, is_confirmed: bool = True) -> None:
        raise NotSettled("the bus is away")

    with monkeypatch.context() as away:
        away.setattr(MemoryDelivery, "ack", fail)
        await replica.projection.step()
    assert (JobState.SUCCEEDED, 2) == (await _state(replica, job), bus.count(JOB_EVENTS))

    bus.advance(Limits().ack_wait_s + 1)
    await replica.projection.step()

    assert 0 == bus.count(JOB_EVENTS)
    assert list(range(4)) == sorted(_indices(await replica.history_of(job)))


async def test_reports_are_given_back_while_the_database_is_away(
    replica: Replica, worker: Worker, owner: Principal, database: Database
) -> None:
    job = await replica.create(owner, 2)
    await worker.finish(await worker.claim(job.id))
    await database.execute("ALTER TABLE job_events RENAME TO job_events_away")
    await replica.projection.step()
    await database.execute("ALTER TABLE job_events_away RENAME TO job_events")

    # Delivered again after its delay.
    async with asyncio.timeout(10):
        while await _state(replica, job) != JobState.SUCCEEDED:
            await replica.projection.step()
    assert [0, 1] == _indices(await replica.history_of(job))


async def test_a_job_that_an_attempt_gives_up_has_failed_with_the_reason(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 4)
    claimed = await worker.claim(job.id)
    await worker.report(claimed, 0)
    await worker.give_up(claimed, "The inputs can't be read.")
    await replica.projection.step()

    ended = await replica.jobs.get(owner.user_id, job.id)
    assert (JobState.FAILED, ErrorCode.INVALID_INPUT) == (ended.state, ended.error_code)
    assert "The inputs can't be read." == ended.error_message
    history = await replica.history_of(job)
    assert isinstance(history[-1], JobStateChangedRecord)
    assert (JobState.FAILED, "The inputs can't be read.") == (history[-1].state, history[-1].reason)
    assert 1 == replica.counted.total("towhee.job.ended", state="FAILED")


async def test_failed_items_are_told_and_counted_apart(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 3)
    claimed = await worker.claim(job.id)
    await worker.report(claimed, 0, failed=[1])
    await worker.report(claimed, 1)
    await replica.projection.step()

    history = await replica.history_of(job)
    failures = [record for record in history if isinstance(record, ItemFailedRecord)]
    assert [(1, ErrorCode.INVALID_INPUT, "It is bad.")] == [
        (one.index, one.code, one.message) for one in failures
    ]
    ended = await replica.jobs.get(owner.user_id, job.id)
    assert (JobState.SUCCEEDED, 2, 1) == (ended.state, ended.completed_count, ended.failed_count)


async def test_reports_about_jobs_that_are_gone_or_never_were_are_dropped(
    replica: Replica, worker: Worker, owner: Principal, bus: MemoryBus
) -> None:
    job = await replica.create(owner, 2)
    claimed = await worker.claim(job.id)
    await replica.db.execute("DELETE FROM users WHERE id = {}", owner.user_id)
    await worker.report(claimed, 0)
    for job_id in (str(new_id()), "no-id"):
        await worker.publish(JobAttemptFailed(job_id=job_id, attempt=1, code="INTERNAL", message=""))

    await replica.projection.step()

    assert 3 == replica.counted.total("towhee.job.reports", outcome="unknown")
    assert [] == await bus.puller(PROJECTION).fetch(limit=10, wait_s=0.01)


async def test_what_is_no_report_is_thrown_away_and_stops_nothing(
    replica: Replica, worker: Worker, owner: Principal, bus: MemoryBus
) -> None:
    job = await replica.create(owner, 1)
    await bus.publish(subjects.job_event(str(job.id)), ClaimJob(job_id=str(job.id), worker_id="confused"))
    await worker.finish(await worker.claim(job.id))

    await replica.projection.step()

    assert JobState.SUCCEEDED == await _state(replica, job)
    assert [] == await bus.puller(PROJECTION).fetch(limit=10, wait_s=0.01)
    assert ["ClaimJob is no report about a job."] == [
        letter.reason for letter in await bus.dead_letters.read()
    ]


async def test_one_job_in_trouble_does_not_hold_up_another(
    replica: Replica, worker: Worker, owner: Principal, database: Database
) -> None:
    broken, sound = await replica.create(owner, 1), await replica.create(owner, 1)
    claims = [await worker.claim(job.id) for job in (broken, sound)]
    await database.execute("DELETE FROM embedding_jobs WHERE job_id = {}", broken.id)
    for claimed in claims:
        await worker.report(claimed, 0)

    await replica.projection.step()

    assert JobState.SUCCEEDED == await _state(replica, sound)


async def test_items_are_counted_as_used_once(replica: Replica, worker: Worker, owner: Principal) -> None:
    job = await replica.create(owner, 3)
    claimed = await worker.claim(job.id)
    await worker.finish(claimed)
    await worker.finish(claimed)
    await replica.projection.step()

    num_bytes = sum(len(f"text {index}") for index in range(3))
    assert UsageRecord(
        requests=1, items=3, tokens=2 * worker.tokens, bytes=num_bytes, compute_s=2 * worker.compute_s
    ) == (await replica.usage.total(owner.user_id, None))


async def test_the_loop_ends_soon_after_it_is_told(replica: Replica) -> None:
    await replica.projection.start()
    await asyncio.wait_for(replica.projection.close(), 5)
