"""Fixtures: the embedding services on a real database, and a worker that answers on the bus."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest

from bus import subjects
from bus.memory import MemoryBus
from bus.messages import (
    EmbedNow,
    HostedPipeline,
    Input,
    ItemError,
    PipelinesAnnounced,
    TextInput,
    VectorsComputed,
)
from bus.objects import ObjectStore
from bus.port import Bus
from bus.topology import embed_interactive
from server.auth.principal import CredentialKind, Principal, Scope
from server.content import ContentDetector
from server.database import Database
from server.embeddings import Embeddings, EmbedLimits
from server.ids import new_id
from server.interactive import InteractiveLane
from server.pipelines import Pipelines
from server.records import Modality, PipelineRecord
from server.selection import Selector
from server.single_flight import Rows, SingleFlight
from server.uploads import Uploads
from server.usage import UsageMeter
from server.vector_cache import VectorCache

TEXT_PIPELINE = HostedPipeline(
    name="text-a", version="1", modality="TEXT", dimension=8, pool="default", auto_rank=1, description="texts"
)
IMAGE_PIPELINE = HostedPipeline(
    name="image-a", version="1", modality="IMAGE", dimension=6, pool="default", auto_rank=1
)

#: TEXT_PIPELINE as a server knows it.
TEXT_RECORD = PipelineRecord(
    id=new_id(),
    name="text-a",
    version="1",
    modality=Modality.TEXT,
    dimension=8,
    pool="default",
    max_tokens=None,
    auto_rank=1,
    description="",
    available=True,
)

MakePrincipal = Callable[..., Awaitable[Principal]]
ChangePipelines = Callable[..., Awaitable[None]]

#: A text that the worker below can't embed.
POISON = "poison"


def vector_of(content: str, dimension: int) -> npt.NDArray[np.float32]:
    """The unit vector the worker gives for a text or an object key."""
    seed = int.from_bytes(sha256(content.encode()).digest()[:8])
    vector = np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


async def until(condition: Callable[[], Awaitable[bool]], *, timeout_s: float = 5.0) -> None:
    """Wait for something that nothing announces."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


class EmbedWorker:
    """Takes commands off the interactive lane and answers with vectors made of digests.

    Attributes:
        commands: all it took, in order, redeliveries included.
        took: set when it has taken the first.
        gate: it answers only while this is set.
    """

    def __init__(self, bus: Bus, pipelines: list[HostedPipeline], *, chunk_rows: int = 5) -> None:
        self.bus = bus
        self.pipelines = pipelines
        self.commands: list[EmbedNow] = []
        self.took = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self._chunk_rows = chunk_rows
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Announce itself and begin to pull."""
        await self.announce()
        self._task = asyncio.create_task(self._run())

    async def announce(self, *, leaving: bool = False) -> None:
        """Say what it hosts."""
        await self.bus.tell(
            subjects.PIPELINES_ANNOUNCED,
            PipelinesAnnounced(worker_id="w1", pipelines=list(self.pipelines), leaving=leaving),
        )

    async def close(self) -> None:
        """Stop in the middle of whatever it does, as a killed process would."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    @property
    def texts(self) -> list[str]:
        """Every text it was asked to embed, in order."""
        return [
            item.text for command in self.commands for item in command.inputs if isinstance(item, TextInput)
        ]

    async def _run(self) -> None:
        puller = self.bus.puller(embed_interactive("default"))
        while True:
            for delivery in await puller.fetch(limit=16, wait_s=5.0):
                if isinstance(delivery.message, EmbedNow):
                    self.commands.append(delivery.message)
                    self.took.set()
                    await self.gate.wait()
                    for chunk in self.answers(delivery.message):
                        await self.bus.tell(delivery.message.reply_to, chunk)
                await delivery.ack()

    def answers(self, command: EmbedNow) -> list[VectorsComputed]:
        """What it says to a command, by the chunk."""
        dimension = next(hosted.dimension for hosted in self.pipelines if hosted.name == command.pipeline)
        return [
            self._answer(command, start, command.inputs[start : start + self._chunk_rows], dimension)
            for start in range(0, len(command.inputs), self._chunk_rows)
        ]

    @staticmethod
    def _answer(command: EmbedNow, start: int, inputs: list[Input], dimension: int) -> VectorsComputed:
        contents = [item.text if isinstance(item, TextInput) else item.key for item in inputs]
        failures = [
            ItemError(index=start + row, code="INVALID_INPUT", message="This can't be embedded.")
            for row, content in enumerate(contents)
            if content == POISON
        ]
        rows = [
            np.zeros(dimension) if content == POISON else vector_of(content, dimension)
            for content in contents
        ]
        return VectorsComputed(
            request_id=command.request_id,
            first_index=start,
            count=len(inputs),
            dimension=dimension,
            vectors=np.asarray(rows, dtype="<f4").tobytes(),
            truncated=[len(content) > 1000 for content in contents],
            tokens=[len(content.split()) for content in contents],
            failures=failures,
            compute_s=0.25,
        )


class Replica:
    """What one server holds of the interactive lane, asked for texts of TEXT_PIPELINE."""

    def __init__(self, bus: Bus, replica_id: str = "r1", *, max_pending: int = 2048) -> None:
        self.lane = InteractiveLane(bus, replica_id=replica_id, max_pending=max_pending)
        self.flights = SingleFlight(self.lane, VectorCache(100_000))

    async def rows(self, *texts: str, timeout_s: float = 10.0) -> Rows:
        """Ask for some texts."""
        inputs: list[Input] = [TextInput(text=text) for text in texts]
        deadline = asyncio.get_running_loop().time() + timeout_s
        keys = [text.encode() for text in texts]
        return await self.flights.rows(TEXT_RECORD, keys, inputs, deadline=deadline)


@pytest.fixture
async def worker(bus: MemoryBus) -> AsyncIterator[EmbedWorker]:
    """A running worker with a pipeline for text and one for images."""
    worker = EmbedWorker(bus, [TEXT_PIPELINE, IMAGE_PIPELINE])
    yield worker
    await worker.close()


@pytest.fixture
async def make_principal(database: Database) -> MakePrincipal:
    """Make a user with a credential of some scopes."""

    async def make(*scopes: Scope) -> Principal:
        user_id: UUID = new_id()
        await database.execute(
            "INSERT INTO users (id, email, password_hash) VALUES ({}, {}, {})",
            user_id,
            f"{user_id}@example.com",
            "unusable",
        )
        return Principal(
            user_id=user_id,
            credential_id=new_id(),
            kind=CredentialKind.API_KEY,
            scopes=frozenset(scopes or Scope),
        )

    return make


@pytest.fixture
async def principal(make_principal: MakePrincipal) -> Principal:
    """A user who may do everything."""
    return await make_principal()


async def _hosts(registry: Pipelines, wanted: list[HostedPipeline]) -> bool:
    available = {(record.name, record.version) for record in await registry.list_available()}
    return available == {(hosted.name, hosted.version) for hosted in wanted}


@pytest.fixture
async def change_pipelines(pipelines: Pipelines, worker: EmbedWorker) -> ChangePipelines:
    """Have the worker announce others, or leave when there are none, and wait until that is known."""

    async def change(*hosted: HostedPipeline) -> None:
        worker.pipelines = list(hosted)
        await worker.announce(leaving=not hosted)
        await until(lambda: _hosts(pipelines, worker.pipelines))

    return change


@pytest.fixture
async def pipelines(database: Database, bus: MemoryBus, worker: EmbedWorker) -> AsyncIterator[Pipelines]:
    """The registry, with the worker's pipelines in it."""
    pipelines = Pipelines(database, bus)
    await pipelines.start()
    await worker.start()
    await until(lambda: _hosts(pipelines, worker.pipelines))
    yield pipelines
    await pipelines.close()


@pytest.fixture
async def uploads(database: Database, objects: ObjectStore) -> AsyncIterator[Uploads]:
    """Uploads of at most 100 kB."""
    detector = ContentDetector()
    yield Uploads(database, objects, detector, max_upload_bytes=100_000)
    detector.close()


@pytest.fixture
async def usage(database: Database) -> AsyncIterator[UsageMeter]:
    """A meter that writes when it is asked."""
    meter = UsageMeter(database)
    yield meter
    await meter.close()


@pytest.fixture
def embed_limits() -> EmbedLimits:
    """Limits small enough to run into."""
    return EmbedLimits(timeout_s=10.0, max_inputs=200, max_text_bytes=5_000, cache_bytes=1_000_000)


@pytest.fixture
async def embeddings(
    bus: MemoryBus, uploads: Uploads, pipelines: Pipelines, usage: UsageMeter, embed_limits: EmbedLimits
) -> AsyncIterator[Embeddings]:
    """The `embed` service of one replica."""
    embeddings = Embeddings(bus, uploads, Selector(pipelines), usage, replica_id="r1", limits=embed_limits)
    await embeddings.start()
    yield embeddings
    await embeddings.close()
