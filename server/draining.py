"""Let event streams end when the server stops; ordinary requests are waited for.

A stream of server-sent events has no end of its own, so a server that waits for its requests would wait
for ever. Sockets are closed by uvicorn itself (1012, service restart).
"""

import asyncio

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPDisconnectEvent, Message, Receive, ReceiveMessage, Scope, Send

_EVENT_STREAM = b"text/event-stream"


class Draining:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._has_begun = asyncio.Event()

    def begin(self) -> None:
        """End the event streams, as if their clients had left; those come back with their last cursor."""
        self._has_begun.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one connection on."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        stream = _Response(self._has_begun, receive, send)
        await self._app(scope, stream.receive, stream.send)
        await stream.finish()


class _Response:
    """One response, which may turn out to be an event stream."""

    def __init__(self, draining: asyncio.Event, receive: Receive, send: Send) -> None:
        self._draining = draining
        self._receive = receive
        self._send = send
        self._has_request = False
        self._is_stream = asyncio.Event()
        self._is_complete = False

    async def send(self, message: Message) -> None:
        """Look at what the application sends."""
        if message["type"] == "http.response.start":
            headers = {name.lower(): value for name, value in message["headers"]}
            if headers.get(b"content-type", b"").startswith(_EVENT_STREAM):
                self._is_stream.set()
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self._is_complete = True
        await self._send(message)

    async def receive(self) -> ReceiveMessage:
        """Give what the client sends; of an event stream the client is said to have left once we drain."""
        if not self._has_request:
            message = await self._receive()
            self._has_request = not message.get("more_body")
            return message
        # Whoever asks further waits for the client to leave.
        coming = asyncio.ensure_future(self._receive())
        leaving = asyncio.ensure_future(self._wait_until_it_must_end())
        try:
            await asyncio.wait({coming, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return coming.result()
            return HTTPDisconnectEvent(type="http.disconnect")
        finally:
            for waiting in (coming, leaving):
                waiting.cancel()

    async def _wait_until_it_must_end(self) -> None:
        await self._is_stream.wait()
        await self._draining.wait()

    async def finish(self) -> None:
        """End a stream that was cut short as HTTP wants it: its client sees an end and no error."""
        if self._is_stream.is_set() and self._draining.is_set() and not self._is_complete:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
