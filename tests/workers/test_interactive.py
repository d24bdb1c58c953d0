"""The interactive lane over a bus: answered once, in time, by row."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from bus import subjects
from bus.client import NatsBus
from bus.memory import MemoryBus
from bus.messages import EmbedJob, ObjectInput
from bus.objects import ObjectStore
from bus.topology import INTERACTIVE, Topology, apply, embed_interactive
from tests.workers.poison import DEADLY, EXIT_CODE
from tests.workers.rig import POOL, Caller, RunningWorker, rows, soon
from tests.workers.toys import DIMENSION, StartEngine, ToyPipeline, rows_of
from workers.embed.answers import MAX_VECTOR_BYTES
from workers.embed.engine import EngineSettings
from workers.embed.hosting import Pipeline
from workers.towhee_door import TowheeDoor


@pytest.fixture
def toy(door: TowheeDoor) -> ToyPipeline:
    return ToyPipeline(door)


@pytest.fixture
async def caller(bus: MemoryBus) -> Caller:
    caller = Caller(bus)
    await caller.listen()
    return caller


@pytest.fixture
async def worker(
    bus: MemoryBus, start_engine: StartEngine, toy: ToyPipeline, objects: ObjectStore
) -> AsyncIterator[RunningWorker]:
    running = RunningWorker(bus, start_engine({"toy": toy}, EngineSettings()), objects)
    yield running
    toy.gate.set()
    await running.stop()


async def settled(bus: MemoryBus) -> None:
    """Wait until no command is left, delivered or not."""
    await soon(lambda: bus.count(INTERACTIVE) == 0)


async def test_a_command_is_answered_and_then_acknowledged(
    bus: MemoryBus, worker: RunningWorker, caller: Caller
) -> None:
    texts = ["a", "?bb", "ccc…"]

    await caller.ask(texts, first_index=100)

    (answer,) = await caller.answers(3)
    assert ("request-1", 100, 3, DIMENSION) == (
        answer.request_id,
        answer.first_index,
        answer.count,
        answer.dimension,
    )
    assert [1.0, 0.0, 4.0] == rows(answer.vectors, DIMENSION)[:, 0].tolist()
    assert ([1, 0, 4], [False, False, True]) == (answer.tokens, answer.truncated)
    assert [(101, "INVALID_INPUT", "no questions")] == [
        (failure.index, failure.code, failure.message) for failure in answer.failures
    ]
    assert answer.compute_s > 0
    await settled(bus)


async def test_many_rows_come_in_answers_of_at_most_200_kb(
    bus: MemoryBus,
    start_engine: StartEngine,
    pipelines: dict[str, Pipeline],
    objects: ObjectStore,
    caller: Caller,
) -> None:
    """Real vectors this time: 140 rows of 384 dimensions are 215 kB."""
    worker = RunningWorker(bus, start_engine(pipelines, EngineSettings()), objects)
    texts = [f"number {index}" for index in range(140)]

    await caller.ask(texts, pipeline="text-embedding-minilm")

    answers = await caller.answers(140)
    assert [(0, 130), (130, 10)] == [(answer.first_index, answer.count) for answer in answers]
    assert all(len(answer.vectors) <= MAX_VECTOR_BYTES for answer in answers)
    vectors = np.concatenate([rows(answer.vectors, 384) for answer in answers])
    prepared = pipelines["text-embedding-minilm"].prepare_texts(texts[:1])
    assert (
        vectors[0] @ pipelines["text-embedding-minilm"].run([item.payload for item in prepared])[0] > 0.99999
    )  # type: ignore[union-attr]
    await worker.stop()


async def test_a_command_is_not_acknowledged_before_it_is_answered(
    bus: MemoryBus, worker: RunningWorker, caller: Caller, toy: ToyPipeline
) -> None:
    toy.gate.clear()
    await caller.ask(["a"])
    assert await asyncio.to_thread(toy.entered.acquire, timeout=10)
    assert (1, []) == (bus.count(INTERACTIVE), caller.inbox)

    toy.gate.set()

    await caller.answers(1)
    await settled(bus)


async def test_an_expired_command_is_acknowledged_without_compute(
    bus: MemoryBus, worker: RunningWorker, caller: Caller, toy: ToyPipeline
) -> None:
    """Nobody waits any more: it is not even refused."""
    await caller.ask(["late"], deadline_at=datetime.now(UTC))
    await caller.ask(["late"], deadline_at=datetime.now(UTC), pipeline="other")
    await settled(bus)
    assert ([], []) == (toy.batches, caller.inbox)


async def test_a_pipeline_that_is_not_hosted_is_refused(
    bus: MemoryBus, worker: RunningWorker, caller: Caller
) -> None:
    await caller.ask(["a"], pipeline="other", first_index=7)
    refusal = await caller.refusal()
    assert ("PIPELINE_UNAVAILABLE", 7) == (refusal.code, refusal.first_index)
    await settled(bus)


async def test_files_are_read_from_the_object_store(
    worker: RunningWorker, caller: Caller, objects: ObjectStore
) -> None:
    await objects.put("blobs/1", b"hello")
    present = ObjectInput(key="blobs/1", media_type="text/plain", byte_size=5)
    missing = ObjectInput(key="blobs/2", media_type="text/plain", byte_size=5)

    await caller.ask([present, missing])

    (answer,) = await caller.answers(2)
    assert rows_of(["hello"]).tolist() == rows(answer.vectors, DIMENSION)[:1].tolist()
    assert [(1, "NOT_FOUND")] == [(failure.index, failure.code) for failure in answer.failures]


async def test_something_else_on_the_lane_is_terminated(
    bus: MemoryBus, worker: RunningWorker, caller: Caller
) -> None:
    await bus.publish(subjects.interactive("default"), EmbedJob(job_id="1", publish_number=1))
    await settled(bus)


async def test_a_command_that_keeps_coming_back_is_refused(
    bus: MemoryBus, start_engine: StartEngine, toy: ToyPipeline, objects: ObjectStore, caller: Caller
) -> None:
    """It probably kills its worker each time; here it was handed back five times before."""
    await caller.ask(["deadly"])
    puller = bus.puller("embed_interactive_default")
    for _ in range(5):
        (delivery,) = await puller.fetch(limit=1, wait_s=1.0)
        await delivery.nak()
    await puller.close()

    worker = RunningWorker(bus, start_engine({"toy": toy}, EngineSettings()), objects)

    assert "INTERNAL" == (await caller.refusal()).code
    assert [] == toy.batches
    await settled(bus)
    await worker.stop()


async def test_a_stopping_worker_answers_what_it_has_and_takes_no_more(
    bus: MemoryBus, worker: RunningWorker, caller: Caller, toy: ToyPipeline
) -> None:
    toy.gate.clear()
    await caller.ask(["in hand"])
    assert await asyncio.to_thread(toy.entered.acquire, timeout=10)

    worker.tell_to_stop()
    await soon(worker._worker._draining.is_set)
    await caller.ask(["later"], request_id="request-2")
    toy.gate.set()
    await worker.task

    assert ["request-1"] == [answer.request_id for answer in await caller.answers(1)]
    assert 1 == bus.count(INTERACTIVE)


async def test_a_worker_whose_device_hangs_gives_up(
    bus: MemoryBus, start_engine: StartEngine, toy: ToyPipeline, objects: ObjectStore, caller: Caller
) -> None:
    """Its process ends, and what it held is delivered to another."""
    toy.gate.clear()
    engine = start_engine({"toy": toy}, EngineSettings())
    worker = RunningWorker(bus, engine, objects, stuck_s=0.05)
    await caller.ask(["endless"])

    await soon(lambda: worker.given_up)

    assert ["the device has been silent for 0.05 s; the worker gives up"] == worker.given_up
    toy.gate.set()
    await worker.stop()


async def test_what_was_delivered_three_times_is_answered_by_a_process_of_its_own(
    bus: MemoryBus, start_engine: StartEngine, toy: ToyPipeline, caller: Caller, objects: ObjectStore
) -> None:
    """One of them ends processes; the other was only near it."""
    for number, text in enumerate(("good", f"a {DEADLY} text")):
        await caller.ask([text], request_id=f"request-{number}", first_index=number)
    puller = bus.puller(embed_interactive(POOL))
    for _ in range(2):
        for delivery in await puller.fetch(limit=2, wait_s=1):
            await delivery.nak()

    worker = RunningWorker(bus, start_engine({"toy": toy}, EngineSettings()), objects)
    (answer,) = await caller.answers(1)
    refusal = await caller.refusal()
    await worker.stop()

    assert ("request-0", 4.0) == (answer.request_id, rows(answer.vectors, DIMENSION)[0, 0])
    message = f"Input 1 can't be embedded: the process ended with code {EXIT_CODE}."
    assert ("request-1", "INTERNAL", message) == (refusal.request_id, refusal.code, refusal.message)
    assert ([], 0) == (toy.batches, bus.count(INTERACTIVE))


async def test_a_store_that_fails_costs_time_and_no_answer(
    bus: MemoryBus,
    worker: RunningWorker,
    caller: Caller,
    objects: ObjectStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A link to itself stands where the file belongs: reading it fails, and not because it is not there."""
    obstacle = tmp_path / "objects" / "blobs" / "1"
    obstacle.parent.mkdir()
    obstacle.symlink_to(obstacle)
    await caller.ask([ObjectInput(key="blobs/1", media_type="text/plain", byte_size=5)])
    await soon(lambda: "is handed back" in caplog.text)

    obstacle.unlink()
    await objects.put("blobs/1", b"hello")
    bus.advance(5.0)

    (answer,) = await caller.answers(1)
    assert [] == answer.failures


async def test_a_worker_that_comes_before_its_streams_waits_for_them(
    empty_nats_url: str,
    start_engine: StartEngine,
    toy: ToyPipeline,
    objects: ObjectStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On a real server; also what happens when it has lost its memory in a restart."""
    nats = await NatsBus.connect(empty_nats_url, name="test")
    worker = RunningWorker(nats, start_engine({"toy": toy}, EngineSettings()), objects)
    await soon(lambda: "could not pull" in caplog.text)
    await apply(empty_nats_url, Topology.for_pools(["default"]))
    caller = Caller(nats)
    await caller.listen()

    await caller.ask(["a"])

    assert 1 == len(await caller.answers(1))
    await worker.stop()
    await nats.close()
