"""Fixtures: a real nats-server, and both buses behind one port."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.local.nats import LocalNats


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """One nats-server with JetStream for the whole run."""
    directory: Path = tmp_path_factory.mktemp("nats")
    server = LocalNats(directory)
    child = await server.start()
    yield server.url
    await child.stop(5.0)
