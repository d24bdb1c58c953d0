"""Jobs that end processes, jobs whose processes are ended, and jobs that are told to stop: on real parts."""

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from bus.client import NatsBus
from bus.memory import MemoryBus
from bus.objects import ObjectStore
from bus.topology import JOBS, Limits, Topology, apply
from server.auth.principal import Principal
from server.database import Database
from server.errors import ErrorCode
from server.job_cancellations import JobCancellations
from server.job_inputs import CreateJobRequest
from server.records import EmbeddingJobRecord, ItemEmbeddedRecord, JobState, JobStateChangedRecord
from tests.support.jobs import Replica, make_user
from tests.support.processes import is_running, until
from tests.support.waiting import until_true
from tests.workers.poison import DEADLY, EXIT_CODE, SLOW
from tests.workers.poison_worker import HOSTED

ROOT = Path(__file__).parents[2]
#: Short: this is how long a dead worker goes unnoticed.
ACK_WAIT_S = 1.0
WITHIN_S = 40.0
#: Some five seconds of work, in batches of a third of a second.
LONG = [f"{SLOW} {number} {'x' * 60}" for number in range(100)]

StartWorker = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
async def nats_bus(empty_nats_url: str) -> AsyncIterator[NatsBus]:
    await apply(empty_nats_url, Topology.for_pools(["default"], limits=Limits(ack_wait_s=ACK_WAIT_S)))
    connected = await NatsBus.connect(empty_nats_url, name="server")
    yield connected
    await connected.close()


@pytest.fixture
async def replica(database: Database, nats_bus: NatsBus, objects: ObjectStore) -> AsyncIterator[Replica]:
    replica = Replica(database, nats_bus, objects)
    await replica.start()
    await replica.hear_of(HOSTED)
    await replica.outbox.start()
    await replica.projection.start()
    await replica.cancellations.start()
    yield replica
    await replica.cancellations.close()
    await replica.close()


@pytest.fixture
async def owner(database: Database) -> Principal:
    return await make_user(database)


@pytest.fixture
def start_worker(empty_nats_url: str, tmp_path: Path) -> Iterator[StartWorker]:
    workers: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "NATS_URL": empty_nats_url,
            "OBJECT_STORE_URL": (tmp_path / "objects").as_uri(),
        }
        command = [sys.executable, "-m", "tests.workers.poison_worker"]
        workers.append(subprocess.Popen(command, env=environ, cwd=tmp_path))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.wait()


async def _create(replica: Replica, owner: Principal, texts: list[str]) -> EmbeddingJobRecord:
    return await replica.jobs.create(owner, CreateJobRequest(texts=texts, pipeline="toy"))


async def _until_state(replica: Replica, job: EmbeddingJobRecord, *states: JobState) -> EmbeddingJobRecord:
    async def has_come() -> bool:
        return (await replica.jobs.get(job.user_id, job.id)).state in states

    await until_true(has_come, within_s=WITHIN_S)
    return await replica.jobs.get(job.user_id, job.id)


async def _until_attempt(replica: Replica, job: EmbeddingJobRecord, attempt: int) -> None:
    async def has_come() -> bool:
        return (await replica.jobs.get(job.user_id, job.id)).attempt >= attempt

    await until_true(has_come, within_s=WITHIN_S)


async def _finals(replica: Replica, job: EmbeddingJobRecord) -> list[JobState]:
    return [
        record.state
        for record in await replica.history_of(job)
        if isinstance(record, JobStateChangedRecord) and record.state.is_final
    ]


async def test_a_job_that_ends_its_workers_fails_on_the_third_delivery_and_its_neighbours_succeed(
    replica: Replica, nats_bus: NatsBus, owner: Principal, start_worker: StartWorker
) -> None:
    poison = await _create(replica, owner, ["good", f"a {DEADLY} text"])
    for _ in range(2):
        dying = start_worker()
        await until(lambda worker=dying: worker.poll() is not None, within_s=WITHIN_S)
        assert EXIT_CODE == dying.returncode
    neighbour = await _create(replica, owner, ["one", "two", "three"])
    worker = start_worker()

    failed = await _until_state(replica, poison, JobState.FAILED, JobState.SUCCEEDED)
    await _until_state(replica, neighbour, JobState.SUCCEEDED)

    assert (JobState.FAILED, ErrorCode.INTERNAL, 3) == (failed.state, failed.error_code, failed.attempt)
    reason = f"Input 1 has ended the process that embedded it, alone: it ended with code {EXIT_CODE}."
    assert reason == failed.error_message
    assert [JobState.FAILED] == await _finals(replica, poison)
    assert 1 == (await replica.jobs.get(owner.user_id, neighbour.id)).attempt
    assert worker.poll() is None

    async def is_kept() -> bool:
        return bool(await nats_bus.dead_letters.read())

    await until_true(is_kept)
    [letter] = await nats_bus.dead_letters.read()
    assert (reason, 3, 3) == (letter.reason, letter.attempt, letter.num_delivered)
    assert f"{poison.id}:1" == letter.headers["Nats-Msg-Id"]


async def test_a_job_whose_worker_is_killed_three_times_is_done_in_the_end(
    replica: Replica, owner: Principal, start_worker: StartWorker
) -> None:
    """Nobody saw the job end a process: it is suspected and worked on alone, and it is innocent."""
    texts = [f"{SLOW} {number}" for number in range(8)]
    job = await _create(replica, owner, texts)
    for attempt in (1, 2, 3):
        worker = start_worker()
        await _until_attempt(replica, job, attempt)
        worker.kill()
        worker.wait()
    start_worker()

    await _until_state(replica, job, JobState.SUCCEEDED, JobState.FAILED)

    items = [one.index for one in await replica.history_of(job) if isinstance(one, ItemEmbeddedRecord)]
    assert [JobState.SUCCEEDED] == await _finals(replica, job)
    assert list(range(len(texts))) == sorted(items)


@pytest.mark.parametrize("is_suspect", [False, True])
async def test_a_running_worker_hears_of_a_cancellation_within_a_second(
    replica: Replica, owner: Principal, start_worker: StartWorker, is_suspect: bool
) -> None:
    worker = start_worker()
    job = await _create(replica, owner, LONG)
    if is_suspect:
        await replica.db.execute("UPDATE jobs SET attempt = 2 WHERE id = {}", job.id)
    await _until_state(replica, job, JobState.RUNNING)

    asked = time.monotonic()
    assert JobState.CANCELLING == (await replica.cancellations.cancel(owner, job.id)).state
    cancelled = await _until_state(replica, job, JobState.CANCELLED)

    assert time.monotonic() - asked < 1.0
    assert [JobState.CANCELLED] == await _finals(replica, job)
    assert cancelled.completed_count < len(LONG)
    assert is_running(worker.pid)
    # The worker is free for the next.
    following = await _create(replica, owner, ["short"])
    await _until_state(replica, following, JobState.SUCCEEDED)


async def test_a_cancellation_whose_broadcast_is_lost_is_heard_with_the_next_heartbeat(
    replica: Replica, owner: Principal, start_worker: StartWorker
) -> None:
    start_worker()
    nowhere = MemoryBus()
    deaf = JobCancellations(replica.db, nowhere, meter=replica.counted.meter)
    job = await _create(replica, owner, LONG)
    await _until_state(replica, job, JobState.RUNNING)

    asked = time.monotonic()
    await deaf.cancel(owner, job.id)
    await _until_state(replica, job, JobState.CANCELLED)

    # A heartbeat a second, and a moment on a busy machine; silence would take five.
    assert time.monotonic() - asked < 2.5
    reasons = [one.reason for one in await replica.history_of(job) if isinstance(one, JobStateChangedRecord)]
    assert "The worker has stopped." == reasons[-1]
    await nowhere.close()


async def test_a_cancelled_job_whose_worker_is_gone_is_cancelled_in_a_few_seconds(
    replica: Replica, nats_bus: NatsBus, owner: Principal, start_worker: StartWorker
) -> None:
    worker = start_worker()
    job = await _create(replica, owner, LONG)
    await _until_state(replica, job, JobState.RUNNING)
    worker.kill()
    worker.wait()

    await replica.cancellations.cancel(owner, job.id)
    await _until_state(replica, job, JobState.CANCELLED)

    assert [JobState.CANCELLED] == await _finals(replica, job)
    start_worker()

    async def is_gone() -> bool:
        return not await _has_jobs(nats_bus)

    await until_true(is_gone, within_s=WITHIN_S)


async def _has_jobs(bus: NatsBus) -> bool:
    info = await bus._connection.request(f"$JS.API.STREAM.INFO.{JOBS}", b"", timeout_s=5)
    return b'"messages":0' not in info.data
