"""The bulk lane over a bus: each chunk reported once, under the attempt that claimed it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bus import subjects
from bus.envelope import Message
from bus.memory import MemoryBus
from bus.messages import CancelJob, ClaimJob, JobAttemptFailed, JobAttemptLetGo, ObjectInput
from bus.messages.embedding import encode_inputs
from bus.objects import ObjectStore
from bus.topology import JOBS
from tests.workers.poison import DEADLY, EXIT_CODE
from tests.workers.rig import JobServer, RunningWorker, as_inputs, rows, soon
from tests.workers.toys import DIMENSION, StartEngine, ToyPipeline, rows_of
from workers.embed.batching import BatchLimits
from workers.embed.engine import EngineSettings
from workers.retries import LONGEST_S, backoff_s
from workers.towhee_door import TowheeDoor

JOB = "job-1"
TEXTS = [f"text {'x' * index}" for index in range(10)]


@pytest.fixture
def toy(door: TowheeDoor) -> ToyPipeline:
    return ToyPipeline(door)


@pytest.fixture
async def server(bus: MemoryBus, objects: ObjectStore) -> AsyncIterator[JobServer]:
    server = JobServer(bus, objects)
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def worker(
    bus: MemoryBus, start_engine: StartEngine, toy: ToyPipeline, objects: ObjectStore
) -> AsyncIterator[RunningWorker]:
    engine = start_engine({"toy": toy}, EngineSettings(limits=BatchLimits(tokens=1)))
    running = RunningWorker(bus, engine, objects)
    yield running
    toy.gate.set()
    await running.stop()


async def settled(bus: MemoryBus) -> None:
    """Wait until the job is off the bus."""
    await soon(lambda: bus.count(JOBS) == 0)


async def test_a_job_is_reported_by_the_chunk_and_its_vectors_are_stored(
    bus: MemoryBus, worker: RunningWorker, server: JobServer, objects: ObjectStore
) -> None:
    await server.create(JOB, TEXTS, chunk_size=4)

    chunks = await server.wait_for_chunks(JOB, 3)

    assert [(0, 0, 4), (1, 4, 4), (2, 8, 2)] == [
        (chunk.chunk, chunk.first_index, chunk.count) for chunk in chunks
    ]
    assert [f"jobs/{JOB}/1-{number}.f32" for number in range(3)] == [chunk.vectors_key for chunk in chunks]
    vectors = b"".join([await objects.get(chunk.vectors_key) for chunk in chunks])
    assert rows_of(TEXTS).tolist() == rows(vectors, DIMENSION).tolist()
    assert sum(map(len, TEXTS)) == sum(chunk.tokens for chunk in chunks)
    assert all(chunk.compute_s > 0 and chunk.attempt == 1 for chunk in chunks)
    await settled(bus)


async def test_failures_carry_the_index_in_the_job(
    worker: RunningWorker, server: JobServer, objects: ObjectStore
) -> None:
    gone = ObjectInput(key="blobs/gone", media_type="text/plain", byte_size=1)
    await server.create(JOB, ["a", "b", "c", "?d", "poison", gone], chunk_size=4)

    failures = [failure for chunk in await server.wait_for_chunks(JOB, 2) for failure in chunk.failures]

    assert [(3, "INVALID_INPUT"), (4, "INTERNAL"), (5, "NOT_FOUND")] == [
        (failure.index, failure.code) for failure in failures
    ]
    assert not any(rows(await objects.get(f"jobs/{JOB}/1-1.f32"), DIMENSION).ravel())


async def test_chunks_that_are_delivered_already_are_skipped(
    bus: MemoryBus, worker: RunningWorker, server: JobServer, toy: ToyPipeline
) -> None:
    server.done_chunks = [0, 2]
    await server.create(JOB, TEXTS, chunk_size=4)
    await settled(bus)
    assert [1] == [chunk.chunk for chunk in await server.wait_for_chunks(JOB, 1)]
    assert TEXTS[4:8] == sorted(text for batch in toy.batches for text in batch)


@pytest.mark.parametrize("reason", ["cancelled", "finished", "unknown"])
async def test_a_refused_claim_is_acknowledged(
    bus: MemoryBus, worker: RunningWorker, server: JobServer, toy: ToyPipeline, reason: str
) -> None:
    server.refuse = reason  # type: ignore[assignment]
    await server.create(JOB, TEXTS, chunk_size=4)
    await settled(bus)
    assert ([], []) == (server.reports, toy.batches)


async def test_with_no_server_to_ask_the_job_is_handed_back_and_tried_again(
    bus: MemoryBus, worker: RunningWorker, objects: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    server = JobServer(bus, objects)
    await server.create(JOB, TEXTS, chunk_size=4)
    await soon(lambda: "job-1 is handed back" in caplog.text)
    assert 1 == bus.count(JOBS)

    await server.start()
    bus.advance(5.0)

    assert 3 == len(await server.wait_for_chunks(JOB, 3))
    await settled(bus)
    await server.close()


@pytest.mark.parametrize(("verdict", "reason"), [("cancel", "cancelled"), ("superseded", "handed_back")])
async def test_a_heartbeat_carries_the_order_to_stop(
    bus: MemoryBus, worker: RunningWorker, server: JobServer, toy: ToyPipeline, verdict: str, reason: str
) -> None:
    toy.gate.clear()
    await server.create(JOB, TEXTS, chunk_size=2)
    assert await asyncio.to_thread(toy.entered.acquire, timeout=10)
    await soon(lambda: len(server.heartbeats) > 1)
    server.verdict = verdict  # type: ignore[assignment]

    await settled(bus)
    toy.gate.set()
    await worker.stop()

    assert [(1, reason)] == await _last_words(server)
    assert {(JOB, 1, "worker-1")} == {
        (beat.job_id, beat.attempt, beat.worker_id) for beat in server.heartbeats
    }


async def _last_words(server: JobServer) -> list[tuple[int, str]]:
    """Wait for the attempts that were let go; nothing else was reported."""
    reports = await soon(lambda: server.reports)
    return [(report.attempt, report.reason) for report in reports if isinstance(report, JobAttemptLetGo)]


async def test_the_broadcast_stops_an_attempt_between_two_heartbeats(
    bus: MemoryBus, start_engine: StartEngine, toy: ToyPipeline, server: JobServer, objects: ObjectStore
) -> None:
    engine = start_engine({"toy": toy}, EngineSettings())
    worker = RunningWorker(bus, engine, objects, heartbeat_every_s=3600)
    toy.gate.clear()
    await server.create(JOB, TEXTS, chunk_size=2)
    assert await asyncio.to_thread(toy.entered.acquire, timeout=10)

    await bus.tell(subjects.job_cancel("another job"), CancelJob(job_id="another job"))
    await bus.tell(subjects.job_cancel(JOB), CancelJob(job_id=JOB))

    assert [(1, "cancelled")] == await _last_words(server)
    await settled(bus)
    toy.gate.set()
    await worker.stop()
    assert [] == server.chunks(JOB)


async def test_a_job_that_was_lost_twice_is_worked_on_alone(
    bus: MemoryBus, worker: RunningWorker, server: JobServer, toy: ToyPipeline, objects: ObjectStore
) -> None:
    server.num_lost = 2
    await server.create(JOB, ["good", "?", "better"], chunk_size=2)

    chunks = await server.wait_for_chunks(JOB, 2)

    assert [] == toy.batches
    vectors = b"".join([await objects.get(chunk.vectors_key) for chunk in chunks])
    assert [[4.0, ord("g"), 1], [0, 0, 0], [6.0, ord("b"), 1]] == rows(vectors, DIMENSION).tolist()
    assert [1] == [failure.index for chunk in chunks for failure in chunk.failures]
    await settled(bus)


async def test_a_job_that_its_own_process_dies_of_fails_and_is_kept_and_its_neighbours_go_on(
    bus: MemoryBus, worker: RunningWorker, server: JobServer
) -> None:
    server.num_lost = 2
    await server.create(JOB, ["good", "good", f"a {DEADLY} text"], chunk_size=2)

    failure = await server.wait_for_failure()
    await settled(bus)

    reason = f"Input 2 has ended the process that embedded it, alone: it ended with code {EXIT_CODE}."
    assert (JOB, 1, "INTERNAL", reason) == (failure.job_id, failure.attempt, failure.code, failure.message)
    [letter] = await bus.dead_letters.read()
    assert ("INTERNAL", reason, 1, 1) == (letter.code, letter.reason, letter.attempt, letter.num_delivered)
    assert subjects.embed_job("default", JOB) == letter.subject
    server.num_lost = 0
    await server.create("job-2", TEXTS, chunk_size=4)
    assert 3 == len(await server.wait_for_chunks("job-2", 3))


async def test_a_job_that_has_ended_too_many_workers_is_not_begun_again(
    bus: MemoryBus, worker: RunningWorker, server: JobServer, toy: ToyPipeline
) -> None:
    server.num_lost = 6
    await server.create(JOB, TEXTS, chunk_size=4)

    failure = await server.wait_for_failure()
    await settled(bus)

    assert ("INTERNAL", "The job has ended 6 worker processes.") == (failure.code, failure.message)
    assert ([], 1) == (toy.batches, len(await bus.dead_letters.read()))


async def test_a_command_of_another_kind_becomes_a_dead_letter(bus: MemoryBus, worker: RunningWorker) -> None:
    await bus.publish(subjects.embed_job("default", JOB), CancelJob(job_id=JOB))
    await settled(bus)

    [letter] = await bus.dead_letters.read()
    assert ("INVALID_INPUT", "CancelJob is no command of the bulk lane.") == (letter.code, letter.reason)


async def test_each_try_that_fails_for_now_is_followed_by_a_longer_pause() -> None:
    longest = [backoff_s(number, chance=lambda: 1.0) for number in range(1, 8)]

    assert [1, 2, 4, 8, 16, 30, 30] == longest
    assert [0.5, 1, 2] == [backoff_s(number, chance=lambda: 0.0) for number in range(1, 4)]
    assert 1 < len({backoff_s(3) for _ in range(20)})
    assert 15 <= backoff_s(100_000) <= 30


async def test_inputs_that_are_gone_end_the_attempt_for_good(
    bus: MemoryBus, worker: RunningWorker, server: JobServer, objects: ObjectStore
) -> None:
    server.refuse = "unknown"
    await server.create(JOB, TEXTS, chunk_size=4)
    await settled(bus)
    server.refuse = None
    await objects.delete(f"inputs/{JOB}")
    await server.publish(JOB)

    failure = await server.wait_for_failure()

    assert (JOB, 1, "INTERNAL") == (failure.job_id, failure.attempt, failure.code)
    await settled(bus)


async def test_a_stopping_worker_finishes_its_chunks_and_hands_the_job_back(
    bus: MemoryBus,
    worker: RunningWorker,
    server: JobServer,
    toy: ToyPipeline,
    start_engine: StartEngine,
    objects: ObjectStore,
) -> None:
    toy.gate.clear()
    await server.create(JOB, TEXTS, chunk_size=2)
    assert await asyncio.to_thread(toy.entered.acquire, timeout=10)
    worker.tell_to_stop()
    await soon(worker._worker._draining.is_set)
    toy.gate.set()
    await worker.task
    assert 1 == bus.count(JOBS)
    first = await server.wait_for_chunks(JOB, 1)
    assert len(first) < 5

    successor = RunningWorker(bus, start_engine({"toy": toy}, EngineSettings()), objects)
    chunks = await server.wait_for_chunks(JOB, 5)

    assert [0, 1, 2, 3, 4] == [chunk.chunk for chunk in chunks]
    assert {1, 2} == {chunk.attempt for chunk in chunks}
    await settled(bus)
    await successor.stop()


@pytest.fixture
def start_successor(
    bus: MemoryBus, door: TowheeDoor, start_engine: StartEngine, objects: ObjectStore
) -> Callable[[], RunningWorker]:
    """Starts another worker, with a device of its own."""

    def start() -> RunningWorker:
        return RunningWorker(bus, start_engine({"toy": ToyPipeline(door)}, EngineSettings()), objects)

    return start


async def test_a_job_whose_chunk_takes_long_is_with_another_worker_within_a_second(
    worker: RunningWorker,
    server: JobServer,
    toy: ToyPipeline,
    start_successor: Callable[[], RunningWorker],
) -> None:
    toy.gate.clear()
    await server.create(JOB, TEXTS, chunk_size=2)
    assert await asyncio.to_thread(toy.entered.acquire, timeout=10)
    successor = start_successor()
    told_at = asyncio.get_running_loop().time()

    worker.tell_to_stop()

    [first, *_] = await server.wait_for_chunks(JOB, 1)
    # Within a second, where nothing else keeps the machine busy.
    assert asyncio.get_running_loop().time() - told_at < 2.0
    chunks = await server.wait_for_chunks(JOB, 5)
    assert ([2] * 5, [0, 1, 2, 3, 4]) == ([c.attempt for c in chunks], [c.chunk for c in chunks])
    assert first in chunks
    toy.gate.set()
    await worker.task
    await successor.stop()


async def test_a_job_goes_back_although_nobody_takes_the_last_word_about_its_attempt(
    bus: MemoryBus,
    worker: RunningWorker,
    server: JobServer,
    toy: ToyPipeline,
    start_successor: Callable[[], RunningWorker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish, is_over = bus.publish, asyncio.Event()

    async def publish_slowly(subject: str, message: Message, **options: Any) -> None:  # noqa: ANN401 - passed on
        if isinstance(message, JobAttemptLetGo):
            await is_over.wait()
        await publish(subject, message, **options)

    monkeypatch.setattr(bus, "publish", publish_slowly)
    toy.gate.clear()
    await server.create(JOB, TEXTS, chunk_size=2)
    assert await asyncio.to_thread(toy.entered.acquire, timeout=10)
    successor = start_successor()

    worker.tell_to_stop()

    chunks = await server.wait_for_chunks(JOB, 5)
    assert {2} == {chunk.attempt for chunk in chunks}
    assert not any(isinstance(report, JobAttemptLetGo) for report in server.reports)
    is_over.set()
    toy.gate.set()
    await worker.task
    await successor.stop()


async def test_something_else_on_the_lane_is_terminated(bus: MemoryBus, worker: RunningWorker) -> None:
    await bus.publish(subjects.embed_job("default", JOB), ClaimJob(job_id=JOB, worker_id="me"))
    await settled(bus)


def _is_handed_back(caplog: pytest.LogCaptureFixture, times: int) -> bool:
    return caplog.text.count("job-1 is handed back") == times


async def test_a_job_for_a_pipeline_that_is_nowhere_is_handed_back_and_fails_in_the_end(
    bus: MemoryBus, worker: RunningWorker, objects: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Another worker of the pool may host it, while a new release is rolled out."""
    server = JobServer(bus, objects, pipeline="other")
    await server.start()
    await server.create(JOB, TEXTS, chunk_size=4)
    for number in range(1, 6):
        await soon(partial(_is_handed_back, caplog, number))
        assert not any(isinstance(report, JobAttemptFailed) for report in server.reports)
        bus.advance(LONGEST_S)

    failure = await server.wait_for_failure()

    assert ("PIPELINE_UNAVAILABLE", 6) == (failure.code, failure.attempt)
    await settled(bus)
    await server.close()


async def test_a_store_that_fails_costs_time_and_no_result(
    bus: MemoryBus,
    worker: RunningWorker,
    server: JobServer,
    objects: ObjectStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A folder stands where a result belongs, as a full or broken store would refuse it."""
    obstacle = tmp_path / "objects" / "jobs" / JOB / "1-2.f32"
    (obstacle / "in the way").mkdir(parents=True)
    await server.create(JOB, TEXTS, chunk_size=4)
    await soon(lambda: "job-1 is handed back" in caplog.text)

    bus.advance(5.0)

    assert [0, 1, 2] == [chunk.chunk for chunk in await server.wait_for_chunks(JOB, 3)]
    await settled(bus)


async def test_inputs_of_another_number_than_the_job_has_end_the_attempt_for_good(
    bus: MemoryBus, worker: RunningWorker, server: JobServer, objects: ObjectStore
) -> None:
    server.refuse = "unknown"
    await server.create(JOB, TEXTS, chunk_size=4)
    await settled(bus)
    server.refuse = None
    await objects.put(f"inputs/{JOB}", encode_inputs(as_inputs(TEXTS[:3])))
    await server.publish(JOB)
    assert "10 inputs, and 3 were found" in (await server.wait_for_failure()).message


async def test_work_goes_on_while_no_server_hears_the_heartbeat(
    bus: MemoryBus,
    worker: RunningWorker,
    server: JobServer,
    toy: ToyPipeline,
    caplog: pytest.LogCaptureFixture,
) -> None:
    toy.gate.clear()
    await server.create(JOB, TEXTS, chunk_size=4)
    assert await asyncio.to_thread(toy.entered.acquire, timeout=10)
    await server.go_deaf()
    await soon(lambda: "was not heard" in caplog.text)

    toy.gate.set()

    assert [0, 1, 2] == [chunk.chunk for chunk in await server.wait_for_chunks(JOB, 3)]
    await settled(bus)
