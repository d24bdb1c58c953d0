"""Fixtures: the REST face of the embedding services, called over ASGI by a signed-in user."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import uvicorn
from litestar import Litestar, Request
from litestar.di import Provide
from litestar.types import ASGIApp, Receive, Scope, Send

from bus.memory import MemoryBus
from server.auth.guards import require_principal
from server.auth.principal import Principal
from server.database import Database
from server.deployments import Deployments
from server.embeddings import Embeddings
from server.pipelines import Pipelines
from server.rest.embeddings import EmbeddingsController, ModelsController
from server.rest.errors import exception_handlers
from server.rest.uploads import FilesController
from server.selection import Selector
from server.uploads import Uploads
from tests.support.embedding import until


class SignedIn:
    """Who the next request comes from; a test may change it."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal


@pytest.fixture
def signed_in(principal: Principal) -> SignedIn:
    """The user of ``rest``."""
    return SignedIn(principal)


def _principal(request: Request[Any, Any, Any]) -> Principal:
    return require_principal(request)


@pytest.fixture
def deployments(database: Database, bus: MemoryBus, pipelines: Pipelines) -> Deployments:
    """Nobody's models so far."""
    return Deployments(database, bus, pipelines)


@pytest.fixture
def embedding_app(
    signed_in: SignedIn,
    embeddings: Embeddings,
    uploads: Uploads,
    pipelines: Pipelines,
    deployments: Deployments,
) -> Litestar:
    """The controllers with their services, behind a middleware that takes everybody's word."""

    def sign_in(app: ASGIApp) -> ASGIApp:
        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("state", {})["principal"] = signed_in.principal
            await app(scope, receive, send)

        return call

    given: dict[str, Callable[[], object]] = {
        "embeddings": lambda: embeddings,
        "uploads": lambda: uploads,
        "pipelines": lambda: pipelines,
        "deployments": lambda: deployments,
        "selector": lambda: Selector(pipelines, deployments),
    }
    return Litestar(
        [EmbeddingsController, ModelsController, FilesController],
        dependencies={
            "principal": Provide(_principal, sync_to_thread=False),
            **{name: Provide(give, sync_to_thread=False) for name, give in given.items()},
        },
        middleware=[sign_in],
        exception_handlers=exception_handlers(),
        request_max_body_size=2_000_000,
    )


@pytest.fixture
async def rest(embedding_app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app."""
    transport = httpx.ASGITransport(app=embedding_app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


@pytest.fixture
async def address(embedding_app: Litestar) -> AsyncIterator[str]:
    """The app behind a real uvicorn on a free port of loopback."""
    server = uvicorn.Server(uvicorn.Config(embedding_app, host="127.0.0.1", port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())

    async def has_started() -> bool:
        return server.started

    await until(has_started)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving
