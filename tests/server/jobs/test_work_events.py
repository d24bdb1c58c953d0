"""The history of a training as its subscribers see it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

import pytest

from bus.errors import ObjectNotFound
from bus.memory import MemoryBus
from bus.objects import ObjectStore
from server.auth.principal import Principal
from server.database import Database
from server.errors import InvalidInput, NotFound
from server.events import JobHistory
from server.ids import model_id_of
from server.job_cursors import Position
from server.lane_rows import DATASET, TRAINING
from server.records import JobEventRecord, JobState, JobStateChangedRecord
from server.training_records import (
    CheckpointSavedRecord,
    ModelExportedRecord,
    SamplesGeneratedRecord,
    TrainingProgressedRecord,
    TrainingWarnedRecord,
)
from tests.support.jobs import Replica, make_user
from tests.support.training_jobs import LaneWorker, Reports, add_dataset, add_training, unusable_report

NUM_SUBSCRIBERS = 200


@pytest.fixture
def worker(bus: MemoryBus, objects: ObjectStore) -> LaneWorker:
    """A train worker."""
    return LaneWorker(bus, objects)


@pytest.fixture
async def job_id(replica: Replica, owner: Principal) -> UUID:
    """A training that waits."""
    return await add_training(replica.db, owner, await add_dataset(replica.db, owner, is_ready=True))


async def _run(replica: Replica, worker: LaneWorker, job_id: UUID) -> None:
    """Take a training to its end, over two windows."""
    claimed = await worker.claim(job_id)
    reports = Reports.of(claimed)
    await worker.publish(reports.progress(1), await worker.put_sample(claimed, 2, "To be"))
    await replica.projection.step()
    await worker.publish(
        reports.picture(3), reports.checkpoint(4), reports.warning(5), reports.progress(6), reports.model(7)
    )
    await replica.projection.step()


async def _read(
    history: JobHistory, owner: Principal, job_id: UUID, after: str | None = None
) -> list[JobEventRecord]:
    async with asyncio.timeout(20):
        return [record async for record in history.subscribe(owner.user_id, job_id, after, TRAINING)]


class CountedDatabase(Database):
    """Counts the statements that read history."""

    def __init__(self, database: Database) -> None:
        super().__init__(database._engine)
        self.num_reads = 0

    async def fetch(self, sql: str, *args: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - what SQL takes
        """Run one statement."""
        self.num_reads += "job_events" in sql
        return await super().fetch(sql, *args)


async def test_everything_that_happens_to_a_training_is_told(
    replica: Replica, worker: LaneWorker, owner: Principal, job_id: UUID
) -> None:
    await _run(replica, worker, job_id)

    history = await _read(replica.history, owner, job_id)

    assert [
        JobStateChangedRecord,
        JobStateChangedRecord,
        TrainingProgressedRecord,
        SamplesGeneratedRecord,
        SamplesGeneratedRecord,
        CheckpointSavedRecord,
        TrainingWarnedRecord,
        TrainingProgressedRecord,
        ModelExportedRecord,
        JobStateChangedRecord,
    ] == [type(record) for record in history]
    progress, text, picture, checkpoint, warning, _, model, end = history[2:]
    assert isinstance(progress, TrainingProgressedRecord)
    assert (1, 100, 0, {"loss": 1.0}, 99.0, "cpu", 1) == (
        progress.step,
        progress.total_steps,
        progress.epoch,
        progress.metrics,
        progress.eta_s,
        progress.device,
        progress.attempt,
    )
    assert isinstance(text, SamplesGeneratedRecord)
    assert ("text/plain", "To be", job_id, 4) == (text.media_type, text.text, text.job_id, text.seq)
    assert isinstance(picture, SamplesGeneratedRecord)
    assert ("image/png", None, "samples", 5) == (
        picture.media_type,
        picture.text,
        picture.name,
        picture.seq,
    )
    assert isinstance(checkpoint, CheckpointSavedRecord)
    assert isinstance(warning, TrainingWarnedRecord)
    assert (4, "COLLAPSE") == (checkpoint.step, warning.code)
    assert isinstance(model, ModelExportedRecord)
    assert model_id_of(job_id, 1) == model.model_id
    assert isinstance(end, JobStateChangedRecord)
    assert JobState.SUCCEEDED == end.state


async def test_from_every_cursor_a_subscriber_goes_on_without_gap_or_repeat(
    replica: Replica, other: Replica, worker: LaneWorker, owner: Principal, job_id: UUID
) -> None:
    early = asyncio.create_task(_read(replica.history, owner, job_id))
    await _run(replica, worker, job_id)
    whole = [record.cursor for record in await early]

    assert len(set(whole)) == len(whole)
    for cut, cursor in enumerate(whole, start=1):
        assert whole[cut:] == [record.cursor for record in await _read(other.history, owner, job_id, cursor)]
        has_more = await other.history.has_more(owner.user_id, job_id, cursor, TRAINING)
        assert has_more == (cut < len(whole))


async def test_a_job_is_found_only_by_its_owner_and_as_what_it_is(
    replica: Replica, owner: Principal, job_id: UUID
) -> None:
    stranger = await make_user(replica.db)

    for user_id, kind in ((stranger.user_id, TRAINING), (owner.user_id, DATASET)):
        with pytest.raises(NotFound):
            await replica.history.has_more(user_id, job_id, None, kind)
        with pytest.raises(NotFound):
            await anext(replica.history.subscribe(user_id, job_id, None, kind))
    with pytest.raises(NotFound):
        await replica.history.has_more(owner.user_id, job_id, None)
    with pytest.raises(InvalidInput):
        await replica.history.has_more(owner.user_id, job_id, Position(100, 0).encode(), TRAINING)


async def test_of_a_validation_its_states_are_told(
    replica: Replica, worker: LaneWorker, owner: Principal
) -> None:
    dataset = await add_dataset(replica.db, owner)
    await worker.claim(dataset.job_id, "data")
    await worker.publish(unusable_report(dataset, "Too few rows."))
    await replica.projection.step()

    events = replica.history.subscribe(owner.user_id, dataset.job_id, kind=DATASET)
    states = [record.state async for record in events if isinstance(record, JobStateChangedRecord)]

    assert [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED] == states


async def test_a_text_that_is_too_long_to_be_told_is_left_to_its_route(
    replica: Replica, worker: LaneWorker, owner: Principal, job_id: UUID
) -> None:
    claimed = await worker.claim(job_id)
    await worker.publish(await worker.put_sample(claimed, 1, "x" * 100_000), Reports.of(claimed).failed(2))
    await replica.projection.step()

    [sample] = [
        record
        for record in await _read(replica.history, owner, job_id)
        if isinstance(record, SamplesGeneratedRecord)
    ]

    assert sample.text is None


async def test_a_text_that_is_gone_is_an_error_and_not_a_gap(
    replica: Replica, worker: LaneWorker, owner: Principal, job_id: UUID, objects: ObjectStore
) -> None:
    claimed = await worker.claim(job_id)
    sample = await worker.put_sample(claimed, 1, "To be")
    await worker.publish(sample)
    await replica.projection.step()
    await objects.delete(sample.object_key)

    with pytest.raises(ObjectNotFound):
        await _read(replica.history, owner, job_id)
    assert replica.history.is_idle


async def _take_until(events: AsyncGenerator[JobEventRecord, None], step: int) -> list[str]:
    """Read on to a step; return the cursors."""
    cursors = []
    async for record in events:
        cursors.append(record.cursor)
        if isinstance(record, TrainingProgressedRecord) and record.step == step:
            return cursors
    raise AssertionError("the stream has ended")


async def test_two_hundred_subscribers_share_what_is_read_for_them(
    database: Database, bus: MemoryBus, objects: ObjectStore, replica: Replica, owner: Principal, job_id: UUID
) -> None:
    counted = CountedDatabase(database)
    # Only nudges wake it.
    history = JobHistory(counted, bus, objects, poll_s=3600)
    worker = LaneWorker(bus, objects)
    claimed = await worker.claim(job_id)
    reports = Reports.of(claimed)
    await worker.publish(reports.progress(1))
    await replica.projection.step()
    streams = [history.subscribe(owner.user_id, job_id, None, TRAINING) for _ in range(NUM_SUBSCRIBERS)]
    seen = await asyncio.gather(*(_take_until(one, 1) for one in streams))

    counted.num_reads = 0
    for step in range(2, 22):
        waiting = [asyncio.create_task(_take_until(one, step)) for one in streams]
        await worker.publish(reports.progress(step))
        await replica.projection.step()
        for cursors, more in zip(seen, await asyncio.gather(*waiting), strict=True):
            cursors.extend(more)

    # A page or two for each event, and not one for each event and subscriber.
    assert counted.num_reads <= 60
    assert [seen[0]] * NUM_SUBSCRIBERS == seen
    assert 23 == len(seen[0])
    for stream in streams:
        await stream.aclose()
    assert history.is_idle


async def test_a_subscriber_that_goes_away_takes_nothing_from_the_others(
    replica: Replica, worker: LaneWorker, owner: Principal, job_id: UUID
) -> None:
    reading = [asyncio.create_task(_read(replica.history, owner, job_id)) for _ in range(20)]
    claimed = await worker.claim(job_id)
    for number in range(1, 10):
        await worker.publish(Reports.of(claimed).progress(number))
        await replica.projection.step()
        reading[number].cancel()
    await worker.publish(Reports.of(claimed).model(10))
    await replica.projection.step()

    histories = await asyncio.gather(*reading, return_exceptions=True)

    whole = [record.cursor for record in await _read(replica.history, owner, job_id)]
    ended = [history for history in histories if isinstance(history, list)]
    assert 11 == len(ended)
    assert all(whole == [record.cursor for record in history] for history in ended)
    assert replica.history.is_idle


async def test_who_comes_while_others_read_sees_what_has_happened_since(
    replica: Replica, worker: LaneWorker, owner: Principal, job_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading that has begun may be too old for who was told of something later."""
    goes_on, has_read = asyncio.Event(), asyncio.Event()
    fetch = replica.db.fetch

    async def read_and_wait(sql: str, *args: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - what SQL takes
        rows = await fetch(sql, *args)
        if "job_events" in sql and not has_read.is_set():
            has_read.set()
            await goes_on.wait()
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(replica.db, "fetch", read_and_wait)
        slow = asyncio.create_task(anext(replica.history.subscribe(owner.user_id, job_id, None, TRAINING)))
        await asyncio.wait_for(has_read.wait(), 5)
        claimed = await worker.claim(job_id)
        async with aclosing(replica.history.subscribe(owner.user_id, job_id, None, TRAINING)) as events:
            states = [(await asyncio.wait_for(anext(events), 5)) for _ in range(2)]
        goes_on.set()
        await slow

    assert 1 == claimed.attempt
    assert [JobState.QUEUED, JobState.RUNNING] == [
        record.state for record in states if isinstance(record, JobStateChangedRecord)
    ]
