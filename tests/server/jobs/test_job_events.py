"""The history of a job as its subscribers see it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import numpy as np
import pytest

from bus import subjects
from bus.errors import BusUnavailable, ObjectNotFound, ObjectStoreError
from bus.memory import MemoryBus
from bus.objects import ObjectStore
from server.auth.principal import Principal
from server.database import Database
from server.errors import InvalidInput, NotFound
from server.ids import new_id
from server.job_cursors import Position
from server.records import (
    EmbeddingJobRecord,
    ItemEmbeddedRecord,
    ItemFailedRecord,
    JobEventRecord,
    JobState,
    JobStateChangedRecord,
)
from tests.support.jobs import CHUNK_SIZE, Replica, Worker, make_user, vector_of
from tests.support.processes import until

ITEM_COUNT = 7


def _cursors(history: Sequence[JobEventRecord]) -> list[str]:
    return [record.cursor for record in history]


async def _run(replica: Replica, worker: Worker, job: EmbeddingJobRecord) -> None:
    """Take a job from its second claim to its end; chunk 1 has a failed item."""
    await worker.claim(job.id)
    claimed = await worker.claim(job.id)
    await worker.report(claimed, 2)
    await replica.projection.step()
    await worker.report(claimed, 1, failed=[3])
    await worker.report(claimed, 0)
    await worker.report(claimed, 3)
    await replica.projection.step()


@pytest.fixture
async def ended_job(replica: Replica, worker: Worker, owner: Principal) -> EmbeddingJobRecord:
    """A job whose history has everything a history may have."""
    job = await replica.create(owner, ITEM_COUNT)
    await _run(replica, worker, job)
    return job


async def test_the_whole_history_is_told_from_the_first_state_to_the_last(
    replica: Replica, ended_job: EmbeddingJobRecord
) -> None:
    history = await replica.history_of(ended_job)

    states = [record.state for record in history if isinstance(record, JobStateChangedRecord)]
    assert [JobState.QUEUED, JobState.RUNNING, JobState.RUNNING, JobState.SUCCEEDED] == states
    embedded = [record for record in history if isinstance(record, ItemEmbeddedRecord)]
    assert [4, 5, 2, 0, 1, 6] == [record.index for record in embedded]
    for record in embedded:
        assert np.array_equal(vector_of(record.index), record.vector)
    assert [3] == [record.index for record in history if isinstance(record, ItemFailedRecord)]
    assert len(history) == len(set(_cursors(history)))


async def test_from_every_cut_a_subscriber_goes_on_without_gap_or_repeat(
    replica: Replica, ended_job: EmbeddingJobRecord
) -> None:
    whole = _cursors(await replica.history_of(ended_job))

    for cut, cursor in enumerate(whole, start=1):
        assert whole[cut:] == _cursors(await replica.history_of(ended_job, cursor))


async def test_a_subscriber_who_leaves_after_any_record_of_a_running_job_misses_nothing(
    replica: Replica, other: Replica, worker: Worker, owner: Principal
) -> None:
    """Two replicas in turn, one record at a time, while the job runs."""
    job = await replica.create(owner, ITEM_COUNT)
    running = asyncio.create_task(_run(replica, worker, job))
    seen: list[JobEventRecord] = []
    histories = [replica.history, other.history]
    async with asyncio.timeout(20):
        while not seen or not _is_end(seen[-1]):
            after = seen[-1].cursor if seen else None
            histories.reverse()
            async with aclosing(histories[0].subscribe(owner.user_id, job.id, after)) as events:
                seen.append(await anext(events))
    await running

    assert _cursors(await replica.history_of(job)) == _cursors(seen)


def _is_end(record: JobEventRecord) -> bool:
    return isinstance(record, JobStateChangedRecord) and record.state.is_final


async def test_subscribers_before_during_and_after_the_run_see_the_same(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, ITEM_COUNT)
    before = asyncio.create_task(replica.history_of(job))
    claimed = await worker.claim(job.id)
    await worker.report(claimed, 0)
    await replica.projection.step()
    during = asyncio.create_task(replica.history_of(job))
    await worker.finish(claimed)
    await replica.projection.step()

    after = await replica.history_of(job)

    assert _cursors(after) == _cursors(await before) == _cursors(await during)
    assert sorted(range(ITEM_COUNT)) == sorted(
        record.index for record in after if isinstance(record, ItemEmbeddedRecord)
    )


async def test_a_nudge_wakes_a_subscriber_long_before_the_slow_poll(
    worker: Worker,
    owner: Principal,
    replica: Replica,
    database: Database,
    bus: MemoryBus,
    objects: ObjectStore,
) -> None:
    patient = Replica(database, bus, objects, poll_s=3600)
    job = await replica.create(owner, 2)
    async with aclosing(patient.history.subscribe(owner.user_id, job.id)) as events:
        await anext(events)
        waiting = asyncio.create_task(anext(events))
        await _until_followed(bus, job)
        claimed = await worker.claim(job.id)
        assert isinstance(await asyncio.wait_for(waiting, 5), JobStateChangedRecord)

        await worker.finish(claimed)
        await replica.projection.step()
        first_item = await asyncio.wait_for(anext(events), 5)
        assert isinstance(first_item, ItemEmbeddedRecord)


async def test_the_slow_poll_finds_what_no_nudge_told(
    replica: Replica, worker: Worker, owner: Principal, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(subject: str, message: object) -> None:
        raise BusUnavailable("nudges are lost today")

    job = await replica.create(owner, ITEM_COUNT)
    monkeypatch.setattr(bus, "tell", lose)
    reading = asyncio.create_task(replica.history_of(job))
    await _until_followed(bus, job)
    await _run(replica, worker, job)

    assert _is_end((await reading)[-1])


async def test_a_job_that_ended_is_over_at_once_for_who_has_read_it_all(
    replica: Replica, ended_job: EmbeddingJobRecord
) -> None:
    last = (await replica.history_of(ended_job))[-1]

    assert [] == await replica.history_of(ended_job, last.cursor)
    assert not await replica.history.has_more(ended_job.user_id, ended_job.id, last.cursor)


async def test_somebody_elses_job_does_not_exist(
    replica: Replica, ended_job: EmbeddingJobRecord, database: Database
) -> None:
    stranger = await make_user(database)

    for user_id, job_id in ((stranger.user_id, ended_job.id), (ended_job.user_id, new_id())):
        with pytest.raises(NotFound):
            await anext(replica.history.subscribe(user_id, job_id))
        with pytest.raises(NotFound):
            await replica.history.has_more(user_id, job_id, "malformed")


@pytest.mark.parametrize("after", ["", "malformed", Position(1000, 0).encode()])
async def test_a_cursor_that_is_none_of_this_job_is_refused(
    replica: Replica, ended_job: EmbeddingJobRecord, after: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        await anext(replica.history.subscribe(ended_job.user_id, ended_job.id, after))
    assert ("after",) == refusal.value.path


async def test_a_slow_consumer_has_one_chunk_read_for_it_at_a_time(
    replica: Replica, ended_job: EmbeddingJobRecord, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_read = 0
    read = objects.get

    async def get(key: str) -> bytes:
        nonlocal num_read
        num_read += 1
        return await read(key)

    monkeypatch.setattr(objects, "get", get)
    async with aclosing(replica.history.subscribe(ended_job.user_id, ended_job.id)) as events:
        num_items = 0
        async for record in events:
            num_items += isinstance(record, ItemEmbeddedRecord | ItemFailedRecord)
            assert -(-num_items // CHUNK_SIZE) == num_read


async def test_a_subscriber_that_stalls_holds_up_nobody_and_misses_nothing(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, ITEM_COUNT)
    stalled = replica.history.subscribe(owner.user_id, job.id)
    first = await anext(stalled)
    eager = asyncio.create_task(replica.history_of(job))

    await _run(replica, worker, job)
    everything = await eager

    # It finds each state and each item where it left off, superseded ones too.
    async with aclosing(stalled):
        assert _cursors(everything) == _cursors([first, *[record async for record in stalled]])


async def test_all_subscribers_of_a_job_share_one_bus_subscription_and_the_last_takes_it_away(
    replica: Replica, owner: Principal, bus: MemoryBus
) -> None:
    job = await replica.create(owner, 1)
    streams = [replica.history.subscribe(owner.user_id, job.id) for _ in range(5)]
    for stream in streams:
        await anext(stream)
    assert 1 == _num_followed(bus, job)

    for stream in streams[1:]:
        await stream.aclose()
        assert 1 == _num_followed(bus, job)
    await streams[0].aclose()

    assert 0 == _num_followed(bus, job)
    assert replica.history.is_idle


async def test_a_consumer_that_is_cancelled_leaves_nothing_behind(
    replica: Replica, owner: Principal, bus: MemoryBus
) -> None:
    job = await replica.create(owner, 1)
    reading = asyncio.create_task(replica.history_of(job))
    await _until_followed(bus, job)

    reading.cancel()
    await asyncio.wait({reading})

    assert reading.cancelled()
    await until(lambda: not _num_followed(bus, job) and replica.history.is_idle)


async def test_who_comes_as_the_last_one_leaves_is_still_told(
    replica: Replica, worker: Worker, owner: Principal, bus: MemoryBus
) -> None:
    job = await replica.create(owner, ITEM_COUNT)
    first = asyncio.create_task(replica.history_of(job))
    await _until_followed(bus, job)
    first.cancel()
    second = asyncio.create_task(replica.history_of(job))
    await asyncio.wait({first})
    await _run(replica, worker, job)

    assert _is_end((await second)[-1])


async def test_a_job_that_is_deleted_ends_its_subscriptions(replica: Replica, owner: Principal) -> None:
    job = await replica.create(owner, 1)
    async with aclosing(replica.history.subscribe(owner.user_id, job.id)) as events:
        await anext(events)
        await replica.db.execute("DELETE FROM users WHERE id = {}", owner.user_id)

        with pytest.raises(NotFound):
            await asyncio.wait_for(_rest(events), 5)
    assert replica.history.is_idle


async def test_vectors_that_are_gone_are_an_error_and_not_a_gap(
    replica: Replica, worker: Worker, owner: Principal, objects: ObjectStore
) -> None:
    job = await replica.create(owner, 2)
    claimed = await worker.claim(job.id)
    report = await worker.report(claimed, 0)
    await replica.projection.step()
    await objects.delete(report.vectors_key)

    with pytest.raises(ObjectNotFound):
        await replica.history_of(job)
    assert replica.history.is_idle


async def test_vectors_that_are_cut_short_are_an_error_and_no_wrong_rows(
    replica: Replica, worker: Worker, owner: Principal, objects: ObjectStore
) -> None:
    job = await replica.create(owner, 2)
    report = await worker.report(await worker.claim(job.id), 0)
    await replica.projection.step()
    await objects.put(report.vectors_key, (await objects.get(report.vectors_key))[:-4])

    with pytest.raises(ObjectStoreError):
        await replica.history_of(job)


async def test_without_a_subscription_on_the_bus_there_is_still_the_slow_poll(
    replica: Replica, worker: Worker, owner: Principal, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise BusUnavailable("no connection")

    job = await replica.create(owner, ITEM_COUNT)
    monkeypatch.setattr(bus, "follow", refuse)
    async with aclosing(replica.history.subscribe(owner.user_id, job.id)) as events:
        await anext(events)
        await _run(replica, worker, job)

        assert _is_end((await asyncio.wait_for(_rest(events), 5))[-1])
    assert replica.history.is_idle


async def test_a_kind_of_row_that_a_newer_release_wrote_is_passed_over(
    replica: Replica, ended_job: EmbeddingJobRecord
) -> None:
    whole = _cursors(await replica.history_of(ended_job))
    await replica.db.execute(
        "UPDATE job_events SET kind = 'weather_changed' WHERE job_id = {} AND seq = 2", ended_job.id
    )

    assert [whole[0], *whole[2:]] == _cursors(await replica.history_of(ended_job))


async def _rest(events: AsyncIterator[JobEventRecord]) -> list[JobEventRecord]:
    return [record async for record in events]


def _num_followed(bus: MemoryBus, job: EmbeddingJobRecord) -> int:
    subject = subjects.job_nudged(str(job.id))
    return sum(member.pattern == subject and not member.is_closed for member in bus._members)


async def _until_followed(bus: MemoryBus, job: EmbeddingJobRecord) -> None:
    await until(lambda: _num_followed(bus, job) > 0)
