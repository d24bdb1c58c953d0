"""The real worker process on a real nats-server: it drains on SIGTERM, and SIGKILL loses nothing."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from bus import subjects
from bus.client import NatsBus
from bus.envelope import Message
from bus.messages import PipelinesAnnounced
from bus.objects import ObjectStore
from bus.topology import Limits, Topology, apply
from tests.workers.deployed import deploy
from tests.workers.rig import Caller, JobServer, rows, soon
from workers.embed.hosting import Pipeline
from workers.nets.manifest import load_artifact

ROOT = Path(__file__).parents[2]
PIPELINE = "text-embedding-minilm"
TEXTS = [f"Text number {index} of a job that takes a while. " * 6 for index in range(120)]
CHUNK_SIZE = 10
NUM_CHUNKS = len(TEXTS) // CHUNK_SIZE
#: Loading torch takes seconds, more on a busy machine.
START_S = 60.0


class Server(JobServer):
    """A server that also hears announcements."""

    def __init__(self, bus: NatsBus, objects: ObjectStore) -> None:
        super().__init__(bus, objects, pipeline=PIPELINE)
        self._nats = bus
        self.announcements: list[PipelinesAnnounced] = []

    async def start(self) -> None:
        """Answer, read and hear from now on."""
        await super().start()
        await self._nats.follow(subjects.PIPELINES_ANNOUNCED, self._hear)

    async def wait_for_worker(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until this worker has announced itself."""
        name = f"-{process.pid}-"
        await soon(lambda: any(name in heard.worker_id for heard in self.announcements), within_s=START_S)

    async def _hear(self, message: Message) -> None:
        assert isinstance(message, PipelinesAnnounced)
        self.announcements.append(message)


@pytest.fixture
async def bus(empty_nats_url: str) -> AsyncIterator[NatsBus]:
    # A short ack wait: what a killed worker held comes back after 5 s instead of 12.
    await apply(empty_nats_url, Topology.for_pools(["default"], limits=Limits(ack_wait_s=5.0)))
    bus = await NatsBus.connect(empty_nats_url, name="test")
    yield bus
    await bus.close()


@pytest.fixture
async def server(bus: NatsBus, objects: ObjectStore) -> AsyncIterator[Server]:
    server = Server(bus, objects)
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def caller(bus: NatsBus) -> Caller:
    caller = Caller(bus)
    await caller.listen()
    return caller


@contextmanager
def running_worker(
    nats_url: str, tmp_path: Path, stderr: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "NATS_URL": nats_url,
        "OBJECT_STORE_URL": (tmp_path / "objects").as_uri(),
        "TOWHEE_API_WORKER_PIPELINES": PIPELINE,
        "TMPDIR": str(tmp_path),
    }
    code = "import sys; from workers.embed.worker import main; sys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", code], env=environ, cwd=tmp_path, stderr=stderr)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def exit_code(process: subprocess.Popen[bytes]) -> int:
    codes = await soon(lambda: [] if process.poll() is None else [process.returncode])
    return int(codes[0])


async def test_a_worker_serves_drains_on_sigterm_and_its_successor_goes_on(
    server: Server, caller: Caller, empty_nats_url: str, tmp_path: Path, pipelines: dict[str, Pipeline]
) -> None:
    with running_worker(empty_nats_url, tmp_path) as worker:
        await server.wait_for_worker(worker)
        await caller.ask(TEXTS[:1], pipeline=PIPELINE)
        (answer,) = await caller.answers(1)
        await server.create("job-1", TEXTS, chunk_size=CHUNK_SIZE)
        await server.wait_for_chunks("job-1", 1)

        worker.send_signal(signal.SIGTERM)

        assert 0 == await exit_code(worker)
    await soon(lambda: server.announcements[-1].leaving)
    assert len(server.chunks("job-1")) < NUM_CHUNKS

    with running_worker(empty_nats_url, tmp_path):
        chunks = await server.wait_for_chunks("job-1", NUM_CHUNKS, within_s=START_S)

    (prepared,) = pipelines[PIPELINE].prepare_texts(TEXTS[:1])
    expected = pipelines[PIPELINE].run([prepared.payload])  # type: ignore[union-attr]
    assert (rows(answer.vectors, 384) * expected).sum() > 0.99999
    assert list(range(NUM_CHUNKS)) == [chunk.chunk for chunk in chunks]
    assert {1, 2} == {chunk.attempt for chunk in chunks}


async def test_a_deployed_model_answers_within_five_seconds_and_leaves_no_file_behind(
    server: Server, caller: Caller, objects: ObjectStore, empty_nats_url: str, tmp_path: Path
) -> None:
    model = await deploy(objects, tmp_path / "artifact", "sentences")
    before = _files_in(tmp_path)
    with running_worker(empty_nats_url, tmp_path) as worker:
        await server.wait_for_worker(worker)

        await caller.ask(["the lion sleeps"], pipeline="model/mine", model=model)
        (answer,) = await caller.answers(1, within_s=5)

        worker.send_signal(signal.SIGTERM)
        assert 0 == await exit_code(worker)
    vector = load_artifact(tmp_path / "objects" / model.prefix).embed(["the lion sleeps"])
    expected = vector / np.linalg.norm(vector)
    assert np.allclose(expected, rows(answer.vectors, model.dimension), atol=1e-5)
    assert "default" == server.announcements[0].models_pool
    assert before == _files_in(tmp_path)


def _files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


async def test_what_a_killed_worker_held_is_done_by_the_next(
    server: Server, caller: Caller, objects: ObjectStore, empty_nats_url: str, tmp_path: Path
) -> None:
    with running_worker(empty_nats_url, tmp_path) as worker:
        await server.wait_for_worker(worker)
        await server.create("job-1", TEXTS, chunk_size=CHUNK_SIZE)
        await server.wait_for_chunks("job-1", 1)
        await caller.ask(TEXTS, pipeline=PIPELINE)

        worker.kill()
        await exit_code(worker)

    assert [] == caller.inbox
    with running_worker(empty_nats_url, tmp_path):
        answers = await caller.answers(len(TEXTS), within_s=START_S)
        chunks = await server.wait_for_chunks("job-1", NUM_CHUNKS, within_s=START_S)

    assert len(TEXTS) == sum(answer.count for answer in answers)
    assert list(range(NUM_CHUNKS)) == sorted({chunk.chunk for chunk in chunks})
    vectors = np.concatenate([rows(await objects.get(chunk.vectors_key), 384) for chunk in chunks])
    assert np.allclose(
        vectors[: len(TEXTS)], np.concatenate([rows(a.vectors, 384) for a in answers]), atol=1e-5
    )


async def test_a_worker_that_waits_for_its_bus_can_be_stopped(tmp_path: Path) -> None:
    with running_worker("nats://127.0.0.1:1", tmp_path, stderr=subprocess.PIPE) as worker:
        assert worker.stderr is not None
        line = await asyncio.to_thread(worker.stderr.readline)
        assert b"loading" in line
        worker.send_signal(signal.SIGTERM)
        assert 0 == await exit_code(worker)


async def test_a_worker_with_a_wrong_credential_exits_1(empty_nats_url: str, tmp_path: Path) -> None:
    address = urlsplit(empty_nats_url)
    wrong = f"nats://nobody:nothing@{address.hostname}:{address.port}"
    with running_worker(wrong, tmp_path) as worker:
        assert 1 == await exit_code(worker)
