"""Servers and workers are replaced one after the other, under load, and nobody notices."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest
from nats.js.api import ConsumerInfo

from bus.topology import INTERACTIVE, JOBS, Topology, apply, embed_bulk, embed_interactive
from deploy.local.nats import find_free_port
from server.database import Database
from tests.support.api import ApiClient
from tests.support.processes import until
from tests.support.script import Script
from tests.support.waiting import until_true

PIPELINE = "text-embedding-minilm"
READY_S = 90.0
JOB_TEXTS = 200
OPEN_JOBS = 2
_HANDED_BACK = re.compile(r"(\d+) deliveries were handed back")


class Process:
    """One server or worker."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, is_ready: Callable[[], Any]) -> None:
        self._process = process
        self._is_ready = is_ready
        self._log = log

    async def ready(self) -> "Process":
        """Wait until it serves."""
        await until_true(self._check, within_s=READY_S)
        return self

    async def replace(self) -> None:
        """Stop it as an orchestrator does, and wait for its end."""
        self._process.send_signal(signal.SIGTERM)
        assert 0 == await asyncio.wait_for(self._process.wait(), 30)

    async def end(self) -> None:
        """Leave nothing behind, whatever has happened."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def num_handed_back(self) -> int:
        """How many deliveries it says it has handed back unopened."""
        return sum(map(int, _HANDED_BACK.findall(self._log.read_text())))

    async def _check(self) -> object:
        assert self._process.returncode is None, self._log.read_text()
        return await self._is_ready()


class Fleet:
    """Starts processes on one database, one bus and one object store."""

    def __init__(self, script: Script, environ: dict[str, str], folder: Path, stack: AsyncExitStack) -> None:
        self._script = script
        self._environ = environ
        self._folder = folder
        self._stack = stack
        self._numbers = count(1)
        #: Addresses of all servers there have been, the newest first, as a client might have them.
        self.urls: list[str] = []
        self.workers: list[Process] = []

    async def server(self) -> Process:
        port = find_free_port()
        url = f"http://127.0.0.1:{port}"
        process = await self._start(["serve"], {"TOWHEE_API_PORT": str(port)}, lambda: _answers(url))
        await process.ready()
        self.urls.insert(0, url)
        return process

    async def worker(self) -> Process:
        file = self._folder / f"ready-{next(self._numbers)}"

        async def exists() -> bool:
            return file.exists()

        settings = {"TOWHEE_API_WORKER_READY_FILE": str(file), "TOWHEE_API_WORKER_PIPELINES": PIPELINE}
        process = await self._start(["work", "embed"], settings, exists)
        self.workers.append(process)
        return process

    async def _start(
        self, command: list[str], settings: dict[str, str], is_ready: Callable[[], Awaitable[object]]
    ) -> Process:
        path = self._folder / f"log-{next(self._numbers)}"
        with path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *self._script.argv, *command, env={**self._environ, **settings}, stderr=log, stdout=log
            )
        started = Process(process, path, is_ready)
        self._stack.push_async_callback(started.end)
        return started


class Crowd:
    """Clients that go to the next server when one refuses the connection, and for no other reason."""

    def __init__(self, fleet: Fleet, secret: str) -> None:
        self._fleet = fleet
        self._headers = {"authorization": f"Bearer {secret}"}
        self._numbers = count()
        self.num_answers = 0
        self.jobs: list[str] = []
        self.over = asyncio.Event()

    async def call(self) -> None:
        """Embed one text after the other."""
        while not self.over.is_set():
            body = {"model": PIPELINE, "input": f"Call number {next(self._numbers)}."}
            answer = await self.ask("POST", "/v1/embeddings", json=body)
            assert 384 == len(answer["data"][0]["embedding"])
            self.num_answers += 1

    async def create_jobs(self) -> None:
        """Keep a few jobs open."""
        over = asyncio.create_task(self.over.wait())
        while not self.over.is_set():
            number = next(self._numbers)
            texts = [f"Text {index} of job {number}, which is one of many." for index in range(JOB_TEXTS)]
            self.jobs.append((await self.ask("POST", "/v1/jobs", json={"texts": texts}))["id"])
            while not (self.over.is_set() or await self._has_room()):
                # Now and then only: the workers should have the cores.
                await asyncio.wait({over}, timeout=0.1)

    async def states(self) -> list[dict[str, Any]]:
        return [await self.ask("GET", f"/v1/jobs/{job}") for job in self.jobs]

    async def ask(self, method: str, path: str, **request: Any) -> Any:  # noqa: ANN401 - JSON
        for url in [*self._fleet.urls]:
            # A connection of its own: what is reused may be closed by either side at any time.
            async with httpx.AsyncClient(base_url=url, headers=self._headers, timeout=30) as http:
                try:
                    answer = await http.request(method, path, **request)
                except httpx.ConnectError:
                    continue
                assert answer.is_success, (url, answer.status_code, answer.text)
                return answer.json()
        raise AssertionError("no server is left")

    async def _has_room(self) -> bool:
        newest = [await self.ask("GET", f"/v1/jobs/{job}") for job in self.jobs[-OPEN_JOBS:]]
        states = [job["state"] for job in newest]
        assert set(states) <= {"QUEUED", "RUNNING", "SUCCEEDED"}
        return len(states) < OPEN_JOBS or "SUCCEEDED" in states


async def _answers(url: str) -> bool:
    async with httpx.AsyncClient(base_url=url) as http:
        try:
            return (await http.get("/health/ready")).is_success
        except httpx.TransportError:
            return False


@pytest.fixture
async def fleet(
    towhee_api: Script, database_url: str, empty_nats_url: str, tmp_path: Path
) -> AsyncIterator[Fleet]:
    await apply(empty_nats_url, Topology.for_pools(["default"]))
    environ = {
        "PATH": os.environ["PATH"],
        "OMP_NUM_THREADS": "1",
        "DATABASE_URL": database_url,
        "NATS_URL": empty_nats_url,
        "OBJECT_STORE_URL": (tmp_path / "objects").as_uri(),
    }
    async with AsyncExitStack() as stack:
        yield Fleet(towhee_api, environ, tmp_path, stack)


async def _holds_a_job(database: Database, worker: Process) -> bool:
    running = await database.fetch("SELECT worker_id FROM jobs WHERE state = 'RUNNING'")
    return any(f"-{worker.pid}-" in row["worker_id"] for row in running)


async def _redelivered(url: str, stream: str, consumer: str) -> int:
    """Deliveries of a consumer beyond the first of each message."""
    client = await nats.connect(url)
    manager = client.jsm()
    num_stored = (await manager.stream_info(stream)).state.last_seq
    info: ConsumerInfo = await manager.consumer_info(stream, consumer)
    await client.close()
    assert info.delivered is not None
    return info.delivered.consumer_seq - num_stored


async def test_each_server_and_each_worker_is_replaced_under_load_and_no_request_fails(
    fleet: Fleet, database: Database, empty_nats_url: str
) -> None:
    workers = [await fleet.worker() for _ in range(2)]
    await asyncio.gather(*(worker.ready() for worker in workers))
    servers = [await fleet.server() for _ in range(2)]
    crowd = Crowd(fleet, (await ApiClient.sign_up(fleet.urls[0])).secret)

    async def replace_all() -> None:
        for old in servers:
            await fleet.server()
            await old.replace()
        for old in workers:
            await (await fleet.worker()).ready()
            await until_true(partial(_holds_a_job, database, old), within_s=60)
            await old.replace()
        num_answers = crowd.num_answers
        await until(lambda: crowd.num_answers > num_answers)
        crowd.over.set()

    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        for load in (crowd.call, crowd.call, crowd.create_jobs):
            group.create_task(load())
        group.create_task(replace_all())

    async def all_succeeded() -> bool:
        return {"SUCCEEDED"} == {job["state"] for job in await crowd.states()}

    await until_true(all_succeeded, within_s=60)
    assert crowd.num_answers > 0
    # One job at a time is in a worker's hand, and each of the two that left handed it back at most once.
    attempts = sum(job["attempt"] for job in await crowd.states())
    bulk = await _redelivered(empty_nats_url, JOBS, embed_bulk("default"))
    interactive = await _redelivered(empty_nats_url, INTERACTIVE, embed_interactive("default"))
    num_handed_back = sum(worker.num_handed_back for worker in fleet.workers)
    assert attempts - len(crowd.jobs) <= bulk <= len(workers) + num_handed_back
    assert interactive <= num_handed_back
