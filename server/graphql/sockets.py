"""One WebSocket that speaks graphql-transport-ws.

Protocol: https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md. Beyond it: messages are checked
for their types, a credential's end closes the socket, silent peers are given up, and syntax errors are
answered to the operation that has them.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Annotated, Any, cast

import msgspec
from graphql import GraphQLError, located_error
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect
from msgspec import Meta
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from strawberry.http.exceptions import (
    NonJsonMessageReceived,
    NonTextMessageReceived,
    WebSocketDisconnected,
)
from strawberry.litestar.controller import LitestarWebSocketAdapter
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
    Operation,
)
from strawberry.subscriptions.protocols.graphql_transport_ws.types import NextMessagePayload
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.utils.aio import aclosing

from bus.tracing import TRACEPARENT
from server.auth.principal import Principal
from server.auth.sockets import FORBIDDEN, SocketHandle
from server.errors import ErrorCode, Forbidden, RateLimited, ServiceError, Unauthenticated
from server.graphql.config import GraphQLConfig
from server.graphql.context import Context
from server.graphql.documents import refusal
from server.graphql.errors import public_errors
from server.graphql.streams import shape
from server.graphql.wire import decode_json
from server.services import Services
from server.telemetry import serving_operation

_log = logging.getLogger("server.graphql")

INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013
MESSAGE_TOO_BIG = 1009
BAD_REQUEST = 4400
UNAUTHORIZED = 4401
TIMED_OUT = 4408
SUBSCRIBER_EXISTS = 4409
TOO_MANY_INITS = 4429

#: RFC 6455, section 5.5: a close frame holds 125 bytes, two of them the code.
_MAX_REASON_BYTES = 123
_BEARER = "bearer "

OperationId = Annotated[str, Meta(min_length=1, max_length=100)]


class ConnectionInit(msgspec.Struct, frozen=True, tag="connection_init"):
    """The client's first message."""

    payload: dict[str, Any] | None = None


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """The client asks whether we are there."""

    payload: dict[str, Any] | None = None


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """The client is there."""

    payload: dict[str, Any] | None = None


class SubscribePayload(msgspec.Struct, frozen=True, rename="camel"):
    """An operation."""

    query: str
    variables: dict[str, Any] | None = None
    operation_name: str | None = None
    extensions: dict[str, Any] | None = None


class Subscribe(msgspec.Struct, frozen=True, tag="subscribe"):
    """The client starts an operation."""

    id: OperationId
    payload: SubscribePayload


class Complete(msgspec.Struct, frozen=True, tag="complete"):
    """The client has had enough of an operation."""

    id: OperationId


ClientMessage = ConnectionInit | Ping | Pong | Subscribe | Complete


class SocketAdapter(LitestarWebSocketAdapter):
    """Litestar's socket, with a limit on messages and calm about peers that have gone."""

    def __init__(
        self,
        view: Any,  # noqa: ANN401, the controller: it knows this class
        request: WebSocket[Any, Any, Any],
        response: WebSocket[Any, Any, Any],
    ) -> None:
        super().__init__(view, request, response)
        self._config: GraphQLConfig = view.face.config
        self._is_closed = False

    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:
        """Yield messages until the peer has gone."""
        del ignore_parsing_errors
        while True:
            try:
                text = await self.ws.receive_text()
            except WebSocketDisconnect:
                return
            if not text:
                # Litestar's way to say that the message was binary.
                raise NonTextMessageReceived
            if len(text) > self._config.max_message_bytes:
                await self.close(MESSAGE_TOO_BIG, "Message too big")
                return
            try:
                yield decode_json(text)
            except json.JSONDecodeError as error:
                raise NonJsonMessageReceived from error

    async def send_json(self, message: Mapping[str, object]) -> None:
        """Send a message.

        Raises:
            WebSocketDisconnected: the peer has gone.
        """
        if self._is_closed:
            raise WebSocketDisconnected
        try:
            await self.ws.send_data(data=self.view.encode_json(message))
        except (WebSocketDisconnect, OSError) as error:
            # uvicorn's ClientDisconnected is an OSError.
            raise WebSocketDisconnected from error

    async def close(self, code: int, reason: str) -> None:
        """Close the socket, once."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self.ws.close(code=code, reason=reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore"))
        except (WebSocketDisconnect, OSError):
            _log.debug("the peer was gone before the close with %d", code)


class SocketSurroundings(msgspec.Struct, frozen=True):
    """What a socket needs of the controller.

    Attributes:
        principal: who opened it by cookie or header, if anybody; a token in connection_init goes before it.
        refusal: why the header that came with the handshake is no credential.
        new_context: makes the surroundings of one operation.
        traceparent: came with the handshake; an operation may bring its own in its ``extensions``.
    """

    services: Services
    config: GraphQLConfig
    principal: Principal | None
    refusal: ServiceError | None
    new_context: Callable[[Principal | None], Context]
    traceparent: str = ""


class _Operation(Operation[SocketSurroundings, None]):
    """One operation, whose results may have been written already."""

    async def send_next(self, execution_result: ExecutionResult) -> None:
        """Send a result."""
        payload = cast("NextMessagePayload", shape(execution_result))
        await self.send_operation_message({"id": self.id, "type": "next", "payload": payload})


class SocketHandler(BaseGraphQLTransportWSHandler[SocketSurroundings, None]):
    """The protocol's states and messages."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401, strawberry's
        super().__init__(**arguments)
        self._principal: Principal | None = None
        self._handle: SocketHandle | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()

    async def shutdown(self) -> None:
        """End everything that belongs to the socket."""
        if self._handle is not None:
            self.context.services.sockets.release(self._handle)
        if self._pinging is not None:
            self._pinging.cancel()
        await super().shutdown()

    async def handle_message(self, message: object) -> None:
        """Check a message's types, then do what it asks."""
        self._heard.set()
        try:
            checked = msgspec.convert(message, ClientMessage)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            # The second: half a surrogate pair where msgspec has to look at a string's bytes.
            await self.handle_invalid_message(f"Invalid message: {error}")
            return
        match checked:
            case ConnectionInit(payload=payload):
                await self._open(payload or {})
            case Ping():
                await self.send_message({"type": "pong"})
            case Pong():
                pass
            case Subscribe():
                await self._start(checked)
            case Complete(id=operation_id):
                await self.cleanup_operation(operation_id)

    async def _open(self, payload: dict[str, Any]) -> None:
        if self.connection_timed_out:
            return
        if self.connection_init_received:
            await self.websocket.close(TOO_MANY_INITS, "Too many initialisation requests")
            return
        self.connection_init_received = True
        if self.connection_init_timeout_task is not None:
            self.connection_init_timeout_task.cancel()
        try:
            await self._admit(payload)
        except (Unauthenticated, Forbidden):
            await self.websocket.close(FORBIDDEN, "Forbidden")
            return
        except RateLimited as error:
            await self.websocket.close(TRY_AGAIN_LATER, f"{error.code}: {error.message}")
            return
        except ServiceError:
            # Nobody could say whether the credential holds; it may be a good one.
            await self.websocket.close(TRY_AGAIN_LATER, "Try again later")
            return
        await self.send_message({"type": "connection_ack"})
        self.connection_acknowledged = True
        self._pinging = asyncio.create_task(self._keep_alive(), name="socket pings")

    async def _admit(self, payload: dict[str, Any]) -> None:
        """Find out who opened the socket; nobody is an answer, a credential that does not hold is not."""
        services = self.context.services
        principal = self.context.principal
        authorization = payload.get("authorization", payload.get("Authorization"))
        if authorization is not None:
            if not isinstance(authorization, str) or not authorization.lower().startswith(_BEARER):
                raise Unauthenticated("The authorization is no Bearer token.")
            principal = await services.authenticator.authenticate(authorization[len(_BEARER) :].strip())
        elif self.context.refusal is not None:
            raise self.context.refusal
        if principal is not None:
            # Registers before it verifies: a revocation between the two would otherwise miss this socket.
            self._handle = await services.sockets.admit(principal, self._end)
            self._principal = principal

    async def _end(self, code: int, reason: str) -> None:
        """Stop all operations, then close: the registry calls this when the credential has ended."""
        for operation_id in list(self.operations):
            await self.cleanup_operation(operation_id)
        await self.websocket.close(code, reason)

    async def _keep_alive(self) -> None:
        config = self.context.config
        try:
            while True:
                await asyncio.sleep(config.ping_interval_s)
                self._heard.clear()
                await self.send_message({"type": "ping"})
                async with asyncio.timeout(config.pong_timeout_s):
                    await self._heard.wait()
        except TimeoutError:
            await self._end(TIMED_OUT, "Pong timeout")
        except WebSocketDisconnected:
            return

    async def _start(self, message: Subscribe) -> None:
        if not self.connection_acknowledged:
            await self.websocket.close(UNAUTHORIZED, "Unauthorized")
            return
        if message.id in self.operations:
            await self.websocket.close(SUBSCRIBER_EXISTS, f"Subscriber for {message.id} already exists")
            return
        limit = self.context.config.operations_per_socket
        if len(self.operations) >= limit:
            error = refusal(f"At most {limit} operations at a time on one socket.", ErrorCode.QUERY_LIMIT)
            await self.send_message({"id": message.id, "type": "error", "payload": [error.formatted]})
            return
        payload = message.payload
        operation = _Operation(self, message.id, payload.query, payload.variables, payload.operation_name)
        traceparent = (payload.extensions or {}).get(TRACEPARENT, self.context.traceparent)
        work = self._run_traced(operation, traceparent if isinstance(traceparent, str) else "")
        operation.task = asyncio.create_task(work, name="socket operation")
        operation.task.add_done_callback(self._task_done)
        self.operations[message.id] = operation

    async def _run_traced(self, operation: Operation[SocketSurroundings, None], traceparent: str) -> None:
        with serving_operation(traceparent):
            await self.run_operation(operation)

    async def run_operation(self, operation: Operation[SocketSurroundings, None]) -> None:
        """Send an operation's results, then say that it is complete."""
        try:
            results = await self.schema.stream(
                operation.query,
                variable_values=operation.variables,
                context_value=self.context.new_context(self._principal),
                operation_name=operation.operation_name,
            )
            async with aclosing(results):
                await self._send_result_stream(operation, results)
            await operation.send_operation_message({"id": operation.id, "type": "complete"})
        except WebSocketDisconnected:
            return
        except Exception as error:  # noqa: BLE001, one operation's bug must not take the socket's others along
            trace.get_current_span().set_status(StatusCode.ERROR)
            await self._fail(operation, error)

    async def _fail(self, operation: Operation[SocketSurroundings, None], error: Exception) -> None:
        try:
            await operation.send_initial_errors(public_errors([located_error(error)], limit=1))
        except WebSocketDisconnected:
            return

    async def _handle_pre_execution_error(
        self, operation: Operation[SocketSurroundings, None], result: PreExecutionError
    ) -> None:
        errors: list[GraphQLError] = result.errors or []
        await operation.send_initial_errors(errors)

    def forget_id(self, id: str) -> None:  # noqa: A002, strawberry's
        """Make an id free again, if the client has not done so already."""
        self.operations.pop(id, None)
