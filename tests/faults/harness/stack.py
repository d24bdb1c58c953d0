"""A whole stack whose every part can be disturbed: two servers, workers, PostgreSQL, NATS, an object store.

The parts are started as `towhee-api up` starts them; only the addresses that servers and workers are given
lead through proxies.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg

from bus.topology import Limits, Topology, apply
from deploy.local.child import Child
from deploy.local.folder import DataFolder
from deploy.local.keeper import Part
from deploy.local.nats import LocalNats
from deploy.local.parts import StackConfig, command_part, nats_part, postgres_part
from deploy.local.postgres import LocalPostgres, prepare
from deploy.local.readiness import ask
from deploy.migrations import migrate_database
from tests.faults.harness.cluster import NUM_NODES, NatsCluster
from tests.faults.harness.members import Member
from tests.faults.harness.ports import find_lasting_port
from tests.faults.harness.proxy import Proxy, to_port, to_socket
from tests.support.processes import until
from tests.support.waiting import until_true
from workers.train.data.archives import data_folder

Bus = Literal["single", "cluster"]
POOLS = ["default"]
PIPELINE = "text-embedding-minilm"
#: How long an interactive call may take; much less than the product's 30 s, so that rounds are short.
EMBED_TIMEOUT_S = 8.0
READY_S = 120.0

_ROOT = Path(__file__).parents[3]
_MAIN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from deploy.cli import main; sys.exit(main())"


class FaultStack:
    """The members by name, and the proxies between them by (who, what it depends on)."""

    def __init__(self, path: Path, *, bus: Bus, workers: int, trainers: int = 0) -> None:
        self.folder = DataFolder(path)
        self._bus: Bus = bus
        self._num_workers = workers
        self._num_trainers = trainers
        self._ports: list[int] = []
        self._nats_url = ""
        self._nats_port: int | None = None
        self._postgres: LocalPostgres | None = None
        self.members: dict[str, Member] = {}
        self.proxies: dict[tuple[str, str], Proxy] = {}

    @property
    def urls(self) -> list[str]:
        """Where the servers listen: the clients' own list."""
        return [f"http://127.0.0.1:{port}" for port in self._ports]

    @property
    def servers(self) -> list[Member]:
        """In the order of `urls`."""
        return [member for name, member in self.members.items() if name.startswith("server-")]

    @property
    def workers(self) -> list[Member]:
        """The pool."""
        return [member for name, member in self.members.items() if name.startswith("worker-")]

    @property
    def trainers(self) -> list[Member]:
        """The train workers."""
        return [member for name, member in self.members.items() if name.startswith("trainer-")]

    @property
    def nodes(self) -> list[Member]:
        """The bus: one, or three of a cluster."""
        return [member for name, member in self.members.items() if name.startswith(("nats", "node-"))]

    async def start(self) -> None:
        """Bring everything up; returns when both servers and all workers are ready."""
        await self._start_database()
        await self._start_bus()
        for number in range(2):
            self._ports.append(find_lasting_port())
            await self._add_server(number)
        for number in range(self._num_workers):
            await self._add_worker(number)
        for number in range(self._num_trainers):
            await self._add_trainer(number)
        await self.until_ready()

    async def stop(self) -> None:
        """Everything from the outside in."""
        for proxy in self.proxies.values():
            proxy.become("open")
        for names in (("server-", "worker-", "trainer-"), ("nats", "node-"), ("postgres",)):
            members = [member for name, member in self.members.items() if name.startswith(names)]
            for member in members:
                member.thaw()
            await asyncio.gather(*(member.drain() for member in members))
        for proxy in self.proxies.values():
            await proxy.close()

    async def until_ready(self) -> None:
        """Wait until both servers say so and every worker is ready."""
        for member in (*self.servers, *self.workers, *self.trainers):
            await self._until_ready(member)

    async def restart(self, member: Member) -> None:
        """Start it; servers and workers are waited for until they are ready."""
        await member.start()
        await self._until_ready(member)

    async def _until_ready(self, member: Member) -> None:
        if member in self.servers:
            port = self._ports[self.servers.index(member)]
            await until_true(lambda: _is_ready(port), within_s=READY_S)
        elif member in self.workers or member in self.trainers:
            await until(self._ready_file(member.name).exists, within_s=READY_S)

    async def busy_worker(self) -> Member | None:
        """The worker that holds a job now, if one does."""
        return await self._find_busy(self.workers)

    async def busy_trainer(self) -> Member | None:
        """The train worker that holds a training now, if one does."""
        return await self._find_busy(self.trainers)

    async def _find_busy(self, members: Sequence[Member]) -> Member | None:
        if self._postgres is None:
            return None
        connection = await asyncpg.connect(self._postgres.url)
        try:
            rows = await connection.fetch("SELECT worker_id FROM jobs WHERE state = 'RUNNING'")
        finally:
            await connection.close()
        for row in rows:
            for member in members:
                # <host>-<pid>-<random>
                if str(member.pid) == row["worker_id"].rsplit("-", 2)[-2]:
                    return member
        return None

    @property
    def jetstream(self) -> Path:
        """Where the single nats-server keeps its streams."""
        return self.folder.nats / "jetstream"

    async def _start_database(self) -> None:
        self._postgres = await asyncio.to_thread(prepare, self.folder.postgres)
        self.members["postgres"] = Member(postgres_part(self.folder, self._postgres))
        await self.members["postgres"].start()
        await migrate_database(self._postgres.url)

    async def _start_bus(self) -> None:
        if self._bus == "single":
            nats = LocalNats(self.folder.nats, port=find_lasting_port())
            self._nats_url = nats.url
            self._nats_port = urlsplit(nats.url).port
            self.members["nats"] = Member(nats_part(self.folder, nats, POOLS))
            await self.members["nats"].start()
            return
        cluster = NatsCluster(self.folder.nats)
        self._nats_url = cluster.url
        for number in range(NUM_NODES):
            name = f"node-{number}"
            self.members[name] = Member(cluster.part(number, self.folder.log(name)))
        await asyncio.gather(*(node.start() for node in self.nodes))
        await apply(cluster.url, Topology.for_pools(POOLS, limits=Limits(num_replicas=NUM_NODES)))

    async def _add_server(self, number: int) -> None:
        name = f"server-{number}"
        environ = {
            **await self._addresses(name),
            "TOWHEE_API_PORT": str(self._ports[number]),
            "TOWHEE_API_EMBED_TIMEOUT_S": str(EMBED_TIMEOUT_S),
            "TOWHEE_API_DRAIN_S": "10",
        }
        self.members[name] = Member(command_part(name, ["serve"], environ, self._config()))
        await self.members[name].start()

    async def _add_worker(self, number: int) -> None:
        name = f"worker-{number}"
        environ = {
            **await self._addresses(name),
            "TOWHEE_API_WORKER_PIPELINES": PIPELINE,
            "TOWHEE_API_WORKER_READY_FILE": str(self._ready_file(name)),
        }
        del environ["DATABASE_URL"]
        part = command_part(name, ["work", "embed"], environ, self._config())
        self.members[name] = Member(_forgetting(part, self._ready_file(name)))
        await self.members[name].start()

    async def _add_trainer(self, number: int) -> None:
        name = f"trainer-{number}"
        environ = {
            **await self._addresses(name),
            "TOWHEE_API_WORKER_READY_FILE": str(self._ready_file(name)),
            # Often enough for a fault to fall between two of them.
            "TOWHEE_API_TRAIN_CHECKPOINT_EVERY_S": "1",
            "TOWHEE_API_TRAINING_DATA": str(data_folder()),
        }
        del environ["DATABASE_URL"]
        part = command_part(name, ["work", "train"], environ, self._config())
        self.members[name] = Member(_forgetting(part, self._ready_file(name)))
        await self.members[name].start()

    async def _addresses(self, name: str) -> Mapping[str, str]:
        if self._postgres is None:
            raise RuntimeError("the database comes first")
        return {
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "OBJECT_STORE_URL": self.folder.objects.as_uri(),
            "NATS_URL": await self._bus_for(name),
            "DATABASE_URL": await self._database_for(name, self._postgres.url),
        }

    async def _bus_for(self, name: str) -> str:
        if self._nats_port is None:
            return self._nats_url
        proxy = self.proxies[name, "bus"] = Proxy(to_port(self._nats_port))
        await proxy.start()
        return self._nats_url.replace(f":{self._nats_port}", f":{proxy.port}")

    async def _database_for(self, name: str, url: str) -> str:
        if name.startswith(("worker-", "trainer-")):
            return url
        parts = urlsplit(url)
        hosts = parse_qs(parts.query).get("host")
        connect = to_socket(Path(hosts[0]) / ".s.PGSQL.5432") if hosts else to_port(parts.port or 5432)
        proxy = self.proxies[name, "database"] = Proxy(connect)
        await proxy.start()
        where = f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"
        return urlunsplit((parts.scheme, where, parts.path, "", ""))

    def _config(self) -> StackConfig:
        return StackConfig(
            folder=self.folder,
            port=1,
            workers=self._num_workers,
            trainers=0,
            pools=POOLS,
            drain_s=20.0,
            command=[sys.executable, "-c", _MAIN, str(_ROOT)],
            environ={},
        )

    def _ready_file(self, name: str) -> Path:
        return self.folder.path / f"{name}.ready"


async def _is_ready(port: int) -> bool:
    is_ready, _ = await asyncio.to_thread(ask, port)
    return is_ready


def _forgetting(part: Part, ready_file: Path) -> Part:
    """The same part, which removes first what a killed predecessor has left."""

    async def start() -> Child:
        await asyncio.to_thread(ready_file.unlink, missing_ok=True)
        return await part.start()

    return Part(name=part.name, start=start, log=part.log, stop_signal=part.stop_signal, grace_s=part.grace_s)


@asynccontextmanager
async def running_stack(
    path: Path, *, bus: Bus = "single", workers: int = 2, trainers: int = 0
) -> AsyncIterator[FaultStack]:
    """Run a stack for the length of the block. Main thread only."""
    stack = FaultStack(path, bus=bus, workers=workers, trainers=trainers)
    with stack.folder.held():
        try:
            await stack.start()
            yield stack
        finally:
            await stack.stop()
