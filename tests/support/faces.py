"""Fixtures: the whole server, both faces of it, on services that a test can look into."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from litestar import Litestar

from server.app import create_app
from server.services import Services
from server.settings import Settings
from server.telemetry import Telemetry
from tests.support.graphql import GraphQLClient, serving


@pytest.fixture
def whole_app(services: Services) -> Litestar:
    """The application as it is served, on services that have been started."""

    @asynccontextmanager
    async def started(_settings: Settings, _telemetry: Telemetry) -> AsyncIterator[Services]:
        yield services

    settings = Settings(database_url="postgresql://.", nats_url="nats://.", object_store_url="file:///.")
    return create_app(settings, open_services=started)


class User(GraphQLClient):
    """One user of both faces."""

    async def rest(self, method: str, path: str, **options: object) -> httpx.Response:
        """Send a request."""
        headers = {**self.headers, **options.pop("headers", {})}  # type: ignore[dict-item]
        return await self.http.request(method, path, headers=headers, **options)  # type: ignore[arg-type]


@pytest.fixture
async def visitor(whole_app: Litestar) -> AsyncIterator[User]:
    """Somebody who has not signed in, before a running server."""
    async with serving(whole_app) as url, httpx.AsyncClient(base_url=url, timeout=30) as http:
        yield User(url, http)


@pytest.fixture
async def eve(visitor: User) -> User:
    """A user with a session."""
    return await visitor.sign_up("eve@example.com")


@pytest.fixture
async def mal(visitor: User) -> User:
    """Another one."""
    return await visitor.sign_up("mal@example.com")
