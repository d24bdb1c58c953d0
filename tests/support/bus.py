"""Fixtures: a real nats-server, and both buses behind one port."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
import pytest_asyncio

from bus.client import NatsBus
from bus.memory import MemoryBus
from bus.topology import Topology, apply
from deploy.local.child import ChildOptions
from deploy.local.nats import LocalNats

QUIET = ChildOptions(output=asyncio.subprocess.DEVNULL)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """One nats-server with JetStream for the whole run."""
    directory: Path = tmp_path_factory.mktemp("nats")
    server = LocalNats(directory)
    child = await server.start(options=QUIET)
    yield server.url
    await child.stop(5.0)


async def wipe(url: str) -> None:
    """Delete every stream, and with it every consumer."""
    client = await nats.connect(url)
    manager = client.jsm()
    for stream in await manager.streams_info():
        assert stream.config.name is not None
        await manager.delete_stream(stream.config.name)
    await client.close()


@pytest_asyncio.fixture
async def empty_nats_url(nats_url: str) -> str:
    """The nats-server without any stream."""
    await wipe(nats_url)
    return nats_url


@pytest_asyncio.fixture
async def nats_bus(empty_nats_url: str) -> AsyncIterator[NatsBus]:
    """A connection to the nats-server, with empty streams for the pool "default"."""
    await apply(empty_nats_url, Topology.for_pools(["default"]))
    connected = await NatsBus.connect(empty_nats_url, name="test")
    yield connected
    await connected.close()


@pytest_asyncio.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    """An empty bus inside this process, for the pool "default"."""
    memory = MemoryBus()
    yield memory
    await memory.close()
