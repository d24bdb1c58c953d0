"""Fixtures of the durable half: a replica, a worker and somebody whose jobs they are."""

from collections.abc import AsyncIterator

import pytest

from bus.memory import MemoryBus
from bus.objects import ObjectStore
from server.auth.principal import Principal
from server.database import Database
from tests.support.jobs import Replica, Worker, make_user


@pytest.fixture
async def replica(database: Database, bus: MemoryBus, objects: ObjectStore) -> AsyncIterator[Replica]:
    """A server process that knows one pipeline."""
    replica = Replica(database, bus, objects)
    await replica.start()
    yield replica
    await replica.close()


@pytest.fixture
def other(database: Database, bus: MemoryBus, objects: ObjectStore) -> Replica:
    """A second server process beside the first, not started."""
    return Replica(database, bus, objects)


@pytest.fixture
def worker(bus: MemoryBus, objects: ObjectStore) -> Worker:
    """An embedding worker."""
    return Worker(bus, objects)


@pytest.fixture
async def owner(database: Database) -> Principal:
    """A user with a key."""
    return await make_user(database)
