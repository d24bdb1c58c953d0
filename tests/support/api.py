"""A client of a running server, as small as a user's own would be."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import uuid4

import httpx
import websockets

PASSWORD = "violet kettle sings at noon"
_TIMEOUT_S = 60.0


class ApiClient:
    """One user of one server."""

    def __init__(self, url: str, secret: str) -> None:
        self.url = url
        self.secret = secret
        self.http = httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {secret}"}, timeout=_TIMEOUT_S
        )

    @classmethod
    async def sign_up(cls, url: str, *, scopes: tuple[str, ...] = ("EMBED", "READ")) -> Self:
        """Make an account and a key of its own."""
        credentials = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD}
        async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S) as http:
            (await http.post("/v1/users", json=credentials)).raise_for_status()
            log_in = (await http.post("/v1/sessions", json=credentials)).raise_for_status().json()
            bearer = {"authorization": f"Bearer {log_in['token']}"}
            key = await http.post("/v1/keys", headers=bearer, json={"name": "test", "scopes": scopes})
        return cls(url, key.raise_for_status().json()["secret"])

    def at(self, url: str) -> "ApiClient":
        """The same user at another server."""
        return ApiClient(url, self.secret)

    async def graphql(self, query: str, **variables: object) -> dict[str, Any]:
        """Run an operation that is expected to have no top-level errors, and return its data."""
        answer = await self.http.post("/graphql", json={"query": query, "variables": variables})
        body: dict[str, Any] = answer.json()
        assert "errors" not in body, body
        data: dict[str, Any] = body["data"]
        return data

    async def upload(self, name: str, content: bytes) -> str:
        """Upload a file over GraphQL and return its id."""
        query = """mutation($file: Upload!) { uploadFile(input: {file: $file}) {
            ... on UploadFilePayload { file { id } } ... on Error { code message } } }"""
        answer = await self.http.post(
            "/graphql",
            headers={"x-requested-with": "test"},
            data={
                "operations": json.dumps({"query": query, "variables": {"file": None}}),
                "map": json.dumps({"0": ["variables.file"]}),
            },
            files={"0": (name, content)},
        )
        file_id: str = answer.raise_for_status().json()["data"]["uploadFile"]["file"]["id"]
        return file_id

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    @asynccontextmanager
    async def subscribe(
        self, query: str, **variables: object
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Open a subscription on a socket of its own (graphql-transport-ws); gives the data of each event."""
        address = self.url.replace("http://", "ws://") + "/graphql"
        async with websockets.connect(
            address,
            subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
            proxy=None,
            # A client that leaves with a full queue reads no more, and waits 10 s for an answer to its close.
            max_queue=None,
        ) as socket:
            init = {"type": "connection_init", "payload": {"authorization": f"Bearer {self.secret}"}}
            await socket.send(json.dumps(init))
            assert {"type": "connection_ack"} == _without_payload(json.loads(await socket.recv()))
            payload = {"query": query, "variables": variables}
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
            try:
                yield self._events(socket)
            finally:
                # Somebody who leaves does not read on until the close frame comes.
                socket.transport.abort()

    @staticmethod
    async def _events(socket: websockets.ClientConnection) -> AsyncIterator[dict[str, Any]]:
        async for raw in socket:
            message = json.loads(raw)
            if message["type"] == "ping":
                await socket.send(json.dumps({"type": "pong"}))
            elif message["type"] == "complete":
                return
            else:
                assert "next" == message["type"], message
                assert "errors" not in message["payload"], message
                yield message["payload"]["data"]


def _without_payload(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "payload"}
