"""Fixtures: the GraphQL face on real services and a real server, and clients that speak to it."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self, cast

import httpx
import pytest
import uvicorn
import websockets
from litestar import Litestar

from bus.memory import MemoryBus
from bus.objects import ObjectStore
from server.auth.middleware import Authentication
from server.database import Database
from server.graphql.config import GraphQLConfig
from server.graphql.controller import graphql_controller
from server.services import Services, _Parts, _start
from server.settings import Settings
from server.telemetry import Telemetry
from tests.support.embedding import EmbedWorker, _hosts
from tests.support.embedding import until as heard
from tests.support.processes import until

PASSWORD = "a quiet marmot naps uphill"
PROTOCOL = "graphql-transport-ws"


class GraphQLClient:
    """Sends operations as one caller."""

    def __init__(self, url: str, http: httpx.AsyncClient, token: str | None = None) -> None:
        self.url = url
        self.http = http
        self.token = token

    @property
    def headers(self) -> dict[str, str]:
        """How the caller is known."""
        return {"authorization": f"Bearer {self.token}"} if self.token else {}

    async def send(self, query: str, **variables: Any) -> dict[str, Any]:  # noqa: ANN401, JSON
        """Send an operation and return the whole answer."""
        body = {"query": query, "variables": variables}
        # In ASCII, so that half a surrogate pair can be sent too.
        content = json.dumps(body)
        headers = {"content-type": "application/json", **self.headers}
        response = await self.http.post("/graphql", content=content, headers=headers)
        answer: dict[str, Any] = response.json()
        return answer

    async def data(self, query: str, **variables: Any) -> Any:  # noqa: ANN401, JSON
        """Send an operation that succeeds and return its data."""
        answer = await self.send(query, **variables)
        assert "errors" not in answer, answer
        return answer["data"]

    async def refusal(self, query: str, **variables: Any) -> dict[str, Any]:  # noqa: ANN401, JSON
        """Send an operation that is refused on top level and return the first error's extensions."""
        answer = await self.send(query, **variables)
        extensions: dict[str, Any] = answer["errors"][0]["extensions"]
        return extensions

    async def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """Upload a file and return the mutation's result."""
        operations = {"query": UPLOAD, "variables": {"file": None}}
        response = await self.http.post(
            "/graphql",
            data={"operations": json.dumps(operations), "map": json.dumps({"0": ["variables.file"]})},
            files={"0": (name, content, "application/octet-stream")},
            headers=self.headers,
        )
        result: dict[str, Any] = response.json()["data"]["uploadFile"]
        return result

    def acting_as(self, token: str | None) -> Self:
        """Return the same client for another caller."""
        return type(self)(self.url, self.http, token)

    async def sign_up(self, email: str) -> Self:
        """Make an account and return its owner with a session."""
        signed_up = (await self.data(SIGN_UP, email=email, password=PASSWORD))["signUp"]
        assert "SignUpPayload" == signed_up["__typename"], signed_up
        logged_in = (await self.data(LOG_IN, email=email, password=PASSWORD))["logIn"]
        return self.acting_as(logged_in["token"])

    @asynccontextmanager
    async def socket(self, **options: Any) -> AsyncIterator[websockets.ClientConnection]:  # noqa: ANN401
        """Open a socket and wait for its acknowledgement."""
        async with self.raw_socket(**options) as connection:
            payload = {"authorization": f"Bearer {self.token}"} if self.token else {}
            await say(connection, type="connection_init", payload=payload)
            assert {"type": "connection_ack"} == await hear(connection)
            yield connection

    def raw_socket(self, **options: Any) -> websockets.connect:  # noqa: ANN401, websockets' own
        """Open a socket and say nothing yet."""
        url = self.url.replace("http://", "ws://") + "/graphql"
        return websockets.connect(url, subprotocols=[PROTOCOL], max_size=None, **options)  # type: ignore[list-item]


UPLOAD = """
mutation Upload($file: Upload!) {
  uploadFile(input: { file: $file }) {
    __typename
    ... on UploadFilePayload { file { id name mediaType modality byteSize sha256 url } }
    ... on Error { code message path }
  }
}
"""
SIGN_UP = """
mutation SignUp($email: String!, $password: String!) {
  signUp(input: { email: $email, password: $password }) {
    __typename
    ... on SignUpPayload { verificationRequired user { id email } }
    ... on Error { code message path }
  }
}
"""
LOG_IN = """
mutation LogIn($email: String!, $password: String!) {
  logIn(input: { email: $email, password: $password, deviceName: "test" }) {
    __typename
    ... on LogInPayload { token session { id deviceName isCurrent } user { id email } }
    ... on Error { code message path }
  }
}
"""


async def say(connection: websockets.ClientConnection, **message: Any) -> None:  # noqa: ANN401, JSON
    """Send a message."""
    await connection.send(json.dumps(message))


async def hear(connection: websockets.ClientConnection) -> dict[str, Any]:
    """Return the next message that is no ping."""
    async with asyncio.timeout(10):
        while True:
            message: dict[str, Any] = json.loads(await connection.recv())
            if message["type"] != "ping":
                return message


async def closed_with(connection: websockets.ClientConnection) -> tuple[int, str]:
    """Wait until the server has closed and return its code and reason."""
    async with asyncio.timeout(10):
        await connection.wait_closed()
    return connection.close_code or 0, connection.close_reason or ""


@pytest.fixture
def graphql_config() -> GraphQLConfig:
    """Limits small enough to run into."""
    return GraphQLConfig(max_upload_bytes=100_000, max_body_bytes=1_000_000, operations_per_socket=5)


@pytest.fixture
async def services(
    database: Database, bus: MemoryBus, objects: ObjectStore, worker: EmbedWorker
) -> AsyncIterator[Services]:
    """All services of one replica as the server starts them, on a real database and the bus in memory."""
    settings = Settings(
        database_url="postgresql://.",
        nats_url="nats://.",
        object_store_url="file:///.",
        max_inputs=200,
        max_text_bytes=5_000,
        max_upload_bytes=100_000,
        embed_timeout_s=10.0,
    )
    parts = _Parts(
        settings=settings, telemetry=Telemetry(service="test"), db=database, bus=bus, objects=objects
    )
    async with AsyncExitStack() as stack:
        services = await _start(parts, stack)
        await worker.start()
        await heard(lambda: _hosts(services.pipelines, worker.pipelines))
        yield services


@pytest.fixture
def graphql_app(services: Services, graphql_config: GraphQLConfig) -> Litestar:
    """The face with authentication around it, as in the server."""
    return Litestar(
        [graphql_controller(graphql_config, lambda: services)],
        middleware=[Authentication(lambda: services.authenticator, secure_cookies=False)],
        openapi_config=None,
        multipart_form_part_limit=20,
    )


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:  # noqa: ANN401, any ASGI application
    """Serve an application on a free port of loopback and yield its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=5)
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await task


@pytest.fixture
async def anybody(graphql_app: Litestar) -> AsyncIterator[GraphQLClient]:
    """Somebody who has not signed in, before a running server."""
    async with serving(graphql_app) as url, httpx.AsyncClient(base_url=url, timeout=30) as http:
        yield GraphQLClient(url, http)


def no_services() -> Services:
    """Stand where nothing may reach a service: the first touch of one fails the test."""
    return cast("Services", None)


@pytest.fixture
async def shell(graphql_config: GraphQLConfig) -> AsyncIterator[GraphQLClient]:
    """The face alone: what answers before any service is asked."""
    app = Litestar(
        [graphql_controller(graphql_config, no_services)], openapi_config=None, multipart_form_part_limit=20
    )
    async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=30) as http:
        yield GraphQLClient(url, http)


@pytest.fixture
async def ada(anybody: GraphQLClient) -> GraphQLClient:
    """A user with a session."""
    return await anybody.sign_up("ada@example.com")


@pytest.fixture
async def bob(anybody: GraphQLClient) -> GraphQLClient:
    """Another user with a session."""
    return await anybody.sign_up("bob@example.com")
