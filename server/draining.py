"""Let event streams end when the server stops; ordinary requests are waited for.

A stream of server-sent events has no end of its own, so a server that waits for its requests would wait
for ever. Sockets are closed by uvicorn itself (1012, service restart).
"""

import asyncio

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPDisconnectEvent, Message, Receive, ReceiveMessage, Scope, Send

#: In the state of a request's scope while this server leaves.
LEAVING = "is_leaving"
_EVENT_STREAM = b"text/event-stream"


class Draining:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._responses: set[_Response] = set()
        self._is_leaving = False

    def announce(self) -> None:
        """Say that this server leaves: ``/health/ready`` does, and each response ends its connection."""
        self._is_leaving = True

    def begin(self) -> None:
        """Announce it, and end the event streams, as if their clients had left.

        Those come back, to another server, with their last cursor.
        """
        self.announce()
        for response in self._responses:
            response.end_stream()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one connection on."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        if self._is_leaving:
            scope.setdefault("state", {})[LEAVING] = True
        response = _Response(receive, self._closing(send))
        self._responses.add(response)
        try:
            await self._app(scope, response.receive, response.send)
            await response.finish()
        finally:
            self._responses.discard(response)

    def _closing(self, send: Send) -> Send:
        """Tell the client of a server that leaves to send its next request elsewhere."""

        async def announce(message: Message) -> None:
            if message["type"] == "http.response.start" and self._is_leaving:
                headers = [*message["headers"], (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        return announce


class _Response:
    """One response, which may turn out to be an event stream."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._has_request = False
        self._is_stream = False
        self._is_complete = False
        self._is_ended = False
        #: Waits for the client to leave, where the application listens for that.
        self._listening: asyncio.Future[ReceiveMessage] | None = None

    async def send(self, message: Message) -> None:
        """Look at what the application sends."""
        if message["type"] == "http.response.start":
            headers = {name.lower(): value for name, value in message["headers"]}
            self._is_stream = headers.get(b"content-type", b"").startswith(_EVENT_STREAM)
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self._is_complete = True
        await self._send(message)

    async def receive(self) -> ReceiveMessage:
        """Give what the client sends; of a stream that has to end, that the client has left."""
        if not self._has_request:
            message = await self._receive()
            self._has_request = not message.get("more_body")
            return message
        # Whoever asks further waits for the client to leave.
        self._listening = asyncio.ensure_future(self._receive())
        try:
            return await self._listening
        except asyncio.CancelledError:
            if not self._is_ended:
                raise
            return HTTPDisconnectEvent(type="http.disconnect")
        finally:
            self._listening.cancel()

    def end_stream(self) -> None:
        """Say that the client has left, if this is a stream."""
        if self._is_stream:
            self._is_ended = True
            if self._listening is not None:
                self._listening.cancel()

    async def finish(self) -> None:
        """End a stream that was cut short as HTTP wants it: its client sees an end and no error."""
        if self._is_ended and not self._is_complete:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
