"""GraphQL over HTTP and WebSocket: strawberry's Litestar controller with a harder shell."""

import logging
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec
from litestar import Request, Response, WebSocket, get, post, websocket
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.params import FromPath
from litestar.response.streaming import Stream
from litestar.types import Dependencies
from strawberry.http import GraphQLRequestData
from strawberry.http.websocket_origin import normalize_allowed_origins
from strawberry.litestar.controller import GraphQLController
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types.graphql import OperationType

from server.auth.guards import client_of
from server.auth.middleware import PRINCIPAL, REFUSAL
from server.auth.principal import Principal
from server.browser_pages import PageFolder
from server.errors import ErrorCode
from server.graphql.config import GraphQLConfig
from server.graphql.context import Context
from server.graphql.errors import INTERNAL_MESSAGE, log_incident
from server.graphql.execution import ApiSchema, RequestRefused
from server.graphql.ide.folder import ide_folder
from server.graphql.loaders import Loaders
from server.graphql.requests import read_request
from server.graphql.schema import build_schema
from server.graphql.sockets import INTERNAL_ERROR, SocketAdapter, SocketHandler, SocketSurroundings
from server.graphql.streams import EVENTS, server_sent_events, shape
from server.graphql.wire import AnswerFormat, RequestError, answer_format, decode_json, encode_json
from server.services import Services
from server.telemetry import traceparent_of

_log = logging.getLogger("server.graphql")

#: Room in a form beside its file: the operation, the map and the parts' headers.
_FORM_BYTES = 1024 * 1024
_BY_URL = frozenset({OperationType.QUERY, OperationType.SUBSCRIPTION})


class Face(msgspec.Struct, frozen=True):
    """What the controller is made with."""

    config: GraphQLConfig
    #: Called at each request, since services start after the routes are known.
    get_services: Callable[[], Services]
    ide: PageFolder


class ApiController(GraphQLController[SocketSurroundings, None]):
    """One endpoint for every transport; ``graphql_controller`` makes the class with its settings."""

    path = "/graphql"
    include_in_schema = False
    dependencies: ClassVar[Dependencies] = {}  # type: ignore[misc]

    face: ClassVar[Face]
    schema: ApiSchema

    # The legacy graphql-ws protocol is not among them.
    protocols = (GRAPHQL_TRANSPORT_WS_PROTOCOL,)
    graphql_ide = None
    websocket_adapter_class = SocketAdapter
    graphql_transport_ws_handler_class = SocketHandler

    @get()
    async def handle_http_get(self, request: Request[Any, Any, Any]) -> Response[Any]:
        """Answer a query in the URL; a browser gets the page to ask from."""
        if "query" not in request.query_params and "text/html" in request.headers.get("accept", ""):
            return self.face.ide.page("index.html")
        return await self._answer(request)

    @get("/page/{name:str}", sync_to_thread=False)
    def page_part(self, name: FromPath[str], request: Request[Any, Any, Any]) -> Response[bytes]:
        """Serve a script or a style of the page."""
        return self.face.ide.part(name, request.headers)

    @post(status_code=HTTPStatus.OK)
    async def handle_http_post(self, request: Request[Any, Any, Any]) -> Response[Any]:
        """Answer an operation."""
        return await self._answer(request)

    @websocket()
    async def websocket_endpoint(self, socket: WebSocket[Any, Any, Any]) -> None:
        """Serve a socket until it closes."""
        surroundings = SocketSurroundings(
            services=self.face.get_services(),
            config=self.face.config,
            principal=socket.scope["state"].get(PRINCIPAL),
            refusal=socket.scope["state"].get(REFUSAL),
            new_context=lambda principal: self._context_of(principal, socket),
            traceparent=traceparent_of(socket.scope),
        )
        try:
            await self.run(socket, context=surroundings, root_value=None)
        except Exception:  # noqa: BLE001, the edge: the peer would otherwise be left without a word
            _log.exception("a socket has failed")
            await socket.close(code=INTERNAL_ERROR)

    async def _answer(self, request: Request[Any, Any, Any]) -> Response[Any]:
        accept = request.headers.get("accept", "")
        chosen = answer_format(accept)
        try:
            operation = await read_request(request, self.face.config)
            if EVENTS.accepts(accept) and (
                "json" not in accept or self.schema.is_subscription(operation.query, operation.operation_name)
            ):
                # Some clients accept all they know of with each request: what has one answer is no stream.
                return await self._stream(request, operation)
            return await self._execute(request, operation, chosen)
        except RequestError as error:
            refused = error
        except HTTPException as error:
            refused = _from_litestar(error)
        except Exception as error:  # noqa: BLE001, the edge: what is not caught here is described to the client
            refused = RequestError(INTERNAL_MESSAGE, status=HTTPStatus.INTERNAL_SERVER_ERROR)
            refused.extensions = log_incident(error, where="the request")
        return Response(encode_json(refused.body()), media_type=chosen.media_type, status_code=refused.status)

    async def _execute(
        self, request: Request[Any, Any, Any], operation: GraphQLRequestData, answer: AnswerFormat
    ) -> Response[Any]:
        context = self._context(request)
        result = await self.schema.execute(
            operation.query,
            variable_values=operation.variables,
            context_value=context,
            operation_name=operation.operation_name,
            allowed_operation_types=_allowed(request),
        )
        status = HTTPStatus.OK
        if isinstance(result, RequestRefused) and not (
            answer.always_ok and result.status == HTTPStatus.BAD_REQUEST
        ):
            status = HTTPStatus(result.status)
        return Response(
            encode_json(shape(result)),
            media_type=answer.media_type,
            status_code=status,
            cookies=context.cookies,
        )

    async def _stream(self, request: Request[Any, Any, Any], operation: GraphQLRequestData) -> Response[Any]:
        """Answer as server-sent events, each result one (graphql-sse, distinct connections)."""
        context = self._context(request)
        results = await self.schema.stream(
            operation.query,
            variable_values=operation.variables,
            context_value=context,
            operation_name=operation.operation_name,
            allowed_operation_types=_allowed(request),
        )
        return Stream(server_sent_events(results, context), headers=EVENTS.headers, cookies=context.cookies)

    def decode_json(self, data: str | bytes) -> object:
        """Read JSON, strictly."""
        return decode_json(data)

    def encode_json(self, data: object) -> bytes:
        """Write JSON, arrays of numbers in it too."""
        return encode_json(data)

    def _context(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Context:
        state = connection.scope["state"]
        context = self._context_of(state.get(PRINCIPAL), connection)
        context.refusal = state.get(REFUSAL)
        context.receive = connection.receive
        return context

    def _context_of(
        self, principal: Principal | None, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> Context:
        services = self.face.get_services()
        return Context(
            services=services,
            principal=principal,
            client=client_of(connection),
            loaders=Loaders(services, principal),
            nodes_left=self.face.config.limits.nodes,
            secure_cookies=self.face.config.secure_cookies,
        )


def graphql_controller(config: GraphQLConfig, get_services: Callable[[], Services]) -> type[ApiController]:
    """Make the controller.

    Args:
        config: limits and intervals.
        get_services: called at each request, since services start after the routes are known.
    """
    members = {
        "face": Face(config, get_services, ide_folder()),
        "schema": build_schema(config),
        "connection_init_wait_timeout": timedelta(seconds=config.init_timeout_s),
        "allowed_origins": normalize_allowed_origins(config.allowed_origins),
        "request_max_body_size": max(config.max_body_bytes, config.max_upload_bytes + _FORM_BYTES),
    }
    return type("GraphQLEndpoint", (ApiController,), members)


def _allowed(request: Request[Any, Any, Any]) -> frozenset[OperationType] | None:
    return _BY_URL if request.scope["method"] == "GET" else None


def _from_litestar(error: HTTPException) -> RequestError:
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        code = ErrorCode.PAYLOAD_TOO_LARGE
        return RequestError("The body is too large.", code=code, status=error.status_code)
    return RequestError("The form is malformed.")
