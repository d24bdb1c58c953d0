"""Fixtures: the services of training, and what embeds the models that they make."""

from collections.abc import AsyncIterator

import pytest

from bus.memory import MemoryBus
from bus.objects import ObjectStore
from server.auth.principal import Principal
from server.database import Database
from server.pipelines import Pipelines
from tests.support.embedding import MakePrincipal
from tests.support.training_rows import House


@pytest.fixture
async def registry(database: Database, bus: MemoryBus) -> AsyncIterator[Pipelines]:
    """Which pipelines there are: none yet."""
    registry = Pipelines(database, bus)
    await registry.start()
    yield registry
    await registry.close()


@pytest.fixture
async def house(
    database: Database, bus: MemoryBus, objects: ObjectStore, registry: Pipelines
) -> AsyncIterator[House]:
    """A server that knows one train worker."""
    house = House(database, bus, objects, registry)
    await house.start()
    yield house
    await house.close()


@pytest.fixture
async def stranger(make_principal: MakePrincipal) -> Principal:
    """Another user, who may do everything with what is theirs."""
    return await make_principal()
