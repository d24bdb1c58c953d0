"""Fixtures: a server of lanes and workers on a bus in memory."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bus.memory import MemoryBus
from bus.objects import ObjectStore
from tests.support.lanes import LaneServer
from tests.workers.train.service.rig import Workers


@pytest.fixture
async def server(bus: MemoryBus) -> AsyncIterator[LaneServer]:
    server = LaneServer(bus)
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def workers(bus: MemoryBus, objects: ObjectStore, tmp_path: Path) -> AsyncIterator[Workers]:
    async with AsyncExitStack() as stack:
        yield Workers(bus, objects, tmp_path / "cache", stack)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker's settings say by default."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
