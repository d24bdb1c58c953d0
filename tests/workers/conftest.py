"""Fixtures: the real models, loaded once a session, and the pictures and texts to try them on."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

import pytest
import torch

from tests.workers.toys import StartEngine
from workers.embed.engine import Engine, EngineSettings
from workers.embed.hosting import Pipeline
from workers.embed.pipelines.loading import Loader
from workers.embed.pipelines.table import PIPELINES
from workers.towhee_door import TowheeDoor

MAX_PIXELS = 40_000_000


@pytest.fixture(scope="session")
def door() -> TowheeDoor:
    """Towhee, disarmed."""
    torch.set_num_threads(1)
    return TowheeDoor.open()


@pytest.fixture(scope="session")
def pipelines(door: TowheeDoor) -> dict[str, Pipeline]:
    """Every hosted pipeline, with its real model."""
    return Loader(door, max_pixels=MAX_PIXELS).load(PIPELINES)


@pytest.fixture
async def start_engine() -> AsyncIterator[StartEngine]:
    """Start engines that are closed when the test ends."""
    async with AsyncExitStack() as stack:

        def start(pipelines: Mapping[str, Pipeline], settings: EngineSettings) -> Engine:
            engine = Engine(pipelines, settings)
            stack.push_async_callback(engine.close)
            return engine

        yield start


@pytest.fixture
async def engine(start_engine: StartEngine, pipelines: dict[str, Pipeline]) -> Engine:
    """An engine around the real pipelines."""
    return start_engine(pipelines, EngineSettings())
