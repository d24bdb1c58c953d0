"""A server and a worker in one process, around a pipeline that costs next to nothing."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import msgspec
import numpy as np
from litestar import Litestar

from bus.client import NatsBus
from bus.messages import HostedPipeline
from bus.objects import ObjectStore
from server.app import create_app
from server.settings import Settings
from tests.support.api import PASSWORD
from workers.embed.engine import Engine, EngineSettings
from workers.embed.hosting import Pipeline
from workers.embed.items import Matrix, Prepared, Refusal
from workers.embed.job_attempt import Tools
from workers.embed.registry import Announcer
from workers.embed.sacrifice.engine import SacrificialEngine
from workers.embed.serving import EmbedWorker, ServeSettings

TINY = HostedPipeline(
    name="tiny", version="1", modality="TEXT", dimension=2, pool="default", auto_rank=1, description="lengths"
)
_BASE_URL = "http://localhost"


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the real parts are."""

    database_url: str
    nats_url: str
    object_store_url: str


class TinyPipeline:
    """Embeds a text as its length and 1."""

    dimension = 2

    def prepare_texts(self, texts: Sequence[str]) -> list[Prepared | Refusal]:
        """Count letters."""
        return [Prepared(len(text), 1, tokens=len(text), truncated=False) for text in texts]

    def prepare_bytes(self, data: bytes, media_type: str) -> Prepared | Refusal:
        """Take bytes for text."""
        return self.prepare_texts([data.decode()])[0]

    def run(self, payloads: Sequence[object]) -> Matrix:
        """Make a row of each."""
        return np.array([[payload, 1] for payload in payloads], dtype=np.float32)


def load(_name: str, _options: Mapping[str, int | str]) -> dict[str, Pipeline]:
    """Load the pipeline in a process of its own."""
    return {TINY.name: TinyPipeline()}


@asynccontextmanager
async def tiny_server(addresses: Addresses, *, max_open_jobs: int = 1000) -> AsyncIterator[httpx.AsyncClient]:
    """Start the server's application and give a client of it."""
    app = create_app(
        Settings(
            **msgspec.structs.asdict(addresses),
            max_open_jobs_per_user=max_open_jobs,
            max_open_jobs_per_pool=max_open_jobs,
        )
    )
    async with _lifespan(app):
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=_BASE_URL, timeout=30) as client:
            yield client


@asynccontextmanager
async def tiny_worker(addresses: Addresses) -> AsyncIterator[EmbedWorker]:
    """Run a worker with connections of its own."""
    bus = await NatsBus.connect(addresses.nats_url, name="tiny-worker")
    engine = Engine({TINY.name: TinyPipeline()}, EngineSettings())
    objects = ObjectStore.open(addresses.object_store_url)
    alone = SacrificialEngine("tests.support.tiny:load")
    tools = Tools(bus=bus, engine=engine, alone=alone, objects=objects, worker_id="tiny-1")
    worker = EmbedWorker(tools, Announcer(bus, "tiny-1", [TINY]), ServeSettings(pool=TINY.pool, drain_s=10))
    stop = asyncio.Event()
    serving = asyncio.create_task(worker.serve(stop))
    try:
        yield worker
    finally:
        stop.set()
        await serving
        await alone.close()
        await engine.close()
        await bus.close()


@asynccontextmanager
async def tiny_announcements(addresses: Addresses) -> AsyncIterator[None]:
    """Say that the pipeline is hosted, and do no work: what is asked for waits."""
    bus = await NatsBus.connect(addresses.nats_url, name="tiny-announcer")
    announcer = Announcer(bus, "tiny-0", [TINY])
    await announcer.start()
    try:
        yield
    finally:
        await announcer.leave()
        await bus.close()


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncIterator[None]:
    """Run the application's life in a task of its own: a fixture may end in another task than it began in."""
    started, stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            started.set()
            await stop.wait()

    living = asyncio.create_task(live())
    starting = asyncio.create_task(started.wait())
    await asyncio.wait({living, starting}, return_when=asyncio.FIRST_COMPLETED)
    starting.cancel()
    try:
        if not living.done():
            yield
    finally:
        stop.set()
        await living


async def wait_until_hosted(client: httpx.AsyncClient) -> None:
    """Return when the server has heard of the worker."""
    while (await client.get("/health/ready")).is_error:  # noqa: ASYNC110 - nobody tells a client
        await asyncio.sleep(0.01)


async def sign_in(client: httpx.AsyncClient) -> None:
    """Make an account and let the client speak for it."""
    credentials = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD}
    (await client.post("/v1/users", json=credentials)).raise_for_status()
    log_in = (await client.post("/v1/sessions", json=credentials)).raise_for_status().json()
    client.headers["authorization"] = f"Bearer {log_in['token']}"
