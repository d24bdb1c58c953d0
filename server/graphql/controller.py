"""GraphQL over HTTP and WebSocket: strawberry's Litestar controller with a harder shell."""

import logging
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any, ClassVar

from litestar import Request, Response, WebSocket, get, post, websocket
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.response.streaming import Stream
from litestar.types import Dependencies
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData, process_result
from strawberry.http.streaming import SSETransport
from strawberry.http.websocket_origin import normalize_allowed_origins
from strawberry.litestar import GraphQLController
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType

from server.auth.guards import client_of
from server.auth.middleware import PRINCIPAL, REFUSAL
from server.auth.principal import Principal
from server.browser_pages import PageFolder
from server.errors import ErrorCode
from server.graphql.config import GraphQLConfig
from server.graphql.context import Context, Services
from server.graphql.errors import INTERNAL_MESSAGE, log_incident
from server.graphql.execution import RequestRefused
from server.graphql.ide.folder import ide_folder
from server.graphql.loaders import Loaders
from server.graphql.requests import read_request
from server.graphql.schema import build_schema
from server.graphql.sockets import INTERNAL_ERROR, SocketAdapter, SocketHandler, SocketSurroundings
from server.graphql.streams import until_revoked
from server.graphql.wire import AnswerFormat, RequestError, answer_format, decode_json, encode_json

_log = logging.getLogger("server.graphql")

#: Room in a form beside its file: the operation, the map and the parts' headers.
_FORM_BYTES = 1024 * 1024
_EVENTS = SSETransport()
_BY_URL = frozenset({OperationType.QUERY, OperationType.SUBSCRIPTION})


class ApiController(GraphQLController[Context, None]):
    """One endpoint for every transport; ``graphql_controller`` makes the class with its settings."""

    path = "/graphql"
    include_in_schema = False
    dependencies: ClassVar[Dependencies] = {}  # type: ignore[misc]

    config: ClassVar[GraphQLConfig]
    get_services: ClassVar[Callable[[], Services]]
    ide: ClassVar[PageFolder]

    # The legacy graphql-ws protocol is not among them.
    protocols = (GRAPHQL_TRANSPORT_WS_PROTOCOL,)
    graphql_ide = None
    websocket_adapter_class = SocketAdapter
    graphql_transport_ws_handler_class = SocketHandler

    @get()
    async def handle_http_get(self, request: Request[Any, Any, Any]) -> Response[Any]:  # type: ignore[override]
        """Answer a query in the URL; a browser gets the page to ask from."""
        if "query" not in request.query_params and "text/html" in request.headers.get("accept", ""):
            return self.ide.page("index.html")
        return await self._answer(request)

    @get("/page/{name:str}", sync_to_thread=False)
    def page_part(self, name: str, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Serve a script or a style of the page."""
        return self.ide.part(name, request.headers)

    @post(status_code=HTTPStatus.OK)
    async def handle_http_post(self, request: Request[Any, Any, Any]) -> Response[Any]:  # type: ignore[override]
        """Answer an operation."""
        return await self._answer(request)

    @websocket()
    async def websocket_endpoint(self, socket: WebSocket[Any, Any, Any]) -> None:  # type: ignore[override]
        """Serve a socket until it closes."""
        surroundings = SocketSurroundings(
            services=self.get_services(),
            config=self.config,
            principal=socket.scope["state"].get(PRINCIPAL),
            refusal=socket.scope["state"].get(REFUSAL),
            new_context=lambda principal: self._context_of(principal, socket),
        )
        try:
            await self.run(socket, context=surroundings, root_value=None)  # type: ignore[arg-type]
        except Exception:  # noqa: BLE001, the edge: the peer would otherwise be left without a word
            _log.exception("a socket has failed")
            await socket.close(code=INTERNAL_ERROR)

    async def _answer(self, request: Request[Any, Any, Any]) -> Response[Any]:
        accept = request.headers.get("accept", "")
        chosen = answer_format(accept)
        try:
            operation = await read_request(request, self.config)
            if _EVENTS.accepts(accept):
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
            encode_json(_shape(result)),
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
        if context.principal is not None:
            results = until_revoked(results, context.services.sockets, context.principal)
        events = self._stream_result(request, results, _EVENTS)
        return Stream(events, headers=_EVENTS.headers, cookies=context.cookies)

    async def process_result(
        self, request: Request[Any, Any, Any], result: ExecutionResult
    ) -> GraphQLHTTPResponse:
        """Shape one event of a stream."""
        del request
        return _shape(result)

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
        return context

    def _context_of(
        self, principal: Principal | None, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> Context:
        services = self.get_services()
        return Context(
            services=services,
            principal=principal,
            client=client_of(connection),
            loaders=Loaders(services, principal),
            nodes_left=self.config.limits.nodes,
            secure_cookies=self.config.secure_cookies,
        )


def graphql_controller(config: GraphQLConfig, get_services: Callable[[], Services]) -> type[ApiController]:
    """Make the controller.

    Args:
        config: limits and intervals.
        get_services: called at each request, since services start after the routes are known.
    """
    members = {
        "config": config,
        "get_services": staticmethod(get_services),
        "schema": build_schema(config),
        "ide": ide_folder(),
        "connection_init_wait_timeout": timedelta(seconds=config.init_timeout_s),
        "allowed_origins": normalize_allowed_origins(config.allowed_origins),
        "request_max_body_size": max(config.max_body_bytes, config.max_upload_bytes + _FORM_BYTES),
    }
    return type("GraphQLEndpoint", (ApiController,), members)


def _shape(result: ExecutionResult) -> GraphQLHTTPResponse:
    if isinstance(result, PreExecutionError):
        return {"errors": [error.formatted for error in result.errors or ()]}
    return process_result(result)


def _allowed(request: Request[Any, Any, Any]) -> frozenset[OperationType] | None:
    return _BY_URL if request.scope["method"] == "GET" else None


def _from_litestar(error: HTTPException) -> RequestError:
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        code = ErrorCode.PAYLOAD_TOO_LARGE
        return RequestError("The body is too large.", code=code, status=error.status_code)
    return RequestError("The form is malformed.")
