"""From the bytes of a request to the one operation in it (https://graphql.github.io/graphql-over-http/draft/)."""

from http import HTTPStatus
from json import JSONDecodeError
from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import FormMultiDict, UploadFile
from strawberry.http import GraphQLRequestData
from strawberry.http.types import HTTPMethod

from server.errors import ErrorCode
from server.graphql.config import GraphQLConfig
from server.graphql.wire import RequestError, decode_json

#: Headers that a page of another site can't send without asking us first, which we refuse
#: (https://fetch.spec.whatwg.org/#cors-safelisted-request-header).
PREFLIGHT_HEADERS = (
    "authorization",
    "x-requested-with",
    "graphql-require-preflight",
    "apollo-require-preflight",
)
_MAX_MAP_BYTES = 16 * 1024
_MAX_FILES = 10


class _Body(msgspec.Struct, frozen=True):
    """The parameters of an operation, as they came."""

    query: object
    variables: object
    operation_name: object
    extensions: object

    def check(self) -> GraphQLRequestData:
        """Check the types.

        Raises:
            RequestError: naming the parameter.
        """
        if not isinstance(self.query, str):
            raise RequestError("query must be a string.", path=("query",))
        if not isinstance(self.variables, dict | None):
            raise RequestError("variables must be an object.", path=("variables",))
        if not isinstance(self.operation_name, str | None):
            raise RequestError("operationName must be a string.", path=("operationName",))
        if not isinstance(self.extensions, dict | None):
            raise RequestError("extensions must be an object.", path=("extensions",))
        return GraphQLRequestData(
            query=self.query,
            variables=self.variables,
            operation_name=self.operation_name,
            extensions=self.extensions,
        )


async def read_request(request: Request[Any, Any, Any], config: GraphQLConfig) -> GraphQLRequestData:
    """Read the operation out of a request.

    Raises:
        RequestError: there is none, or it is malformed or too large.
    """
    method: HTTPMethod = request.scope["method"]  # type: ignore[assignment]
    if method == "GET":
        return _from_url(request)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        return from_object(_decode(await _read(request, config.max_body_bytes)))
    if content_type == "multipart/form-data":
        return await _from_form(request, config)
    message = "The content type must be application/json or multipart/form-data."
    raise RequestError(message, status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def from_object(body: object) -> GraphQLRequestData:
    """Read an operation that was sent as a JSON object.

    Raises:
        RequestError: it is something else, or a parameter has the wrong type.
    """
    if isinstance(body, list):
        raise RequestError("Batches are not served: send one operation a request.")
    if not isinstance(body, dict):
        raise RequestError("The body must be a JSON object.")
    return _Body(
        body.get("query"), body.get("variables"), body.get("operationName"), body.get("extensions")
    ).check()


def _from_url(request: Request[Any, Any, Any]) -> GraphQLRequestData:
    parameters = request.query_params
    decoded = [
        _decode(text.encode()) if (text := parameters.get(name)) else None
        for name in ("variables", "extensions")
    ]
    return _Body(parameters.get("query"), decoded[0], parameters.get("operationName"), decoded[1]).check()


def _decode(data: bytes | str) -> object:
    try:
        return decode_json(data)
    except JSONDecodeError as error:
        raise RequestError("This is no JSON.") from error


async def _read(request: Request[Any, Any, Any], limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise RequestError(
                f"The body is larger than {limit} bytes.",
                code=ErrorCode.PAYLOAD_TOO_LARGE,
                status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        chunks.append(chunk)
    return b"".join(chunks)


async def _from_form(request: Request[Any, Any, Any], config: GraphQLConfig) -> GraphQLRequestData:
    """Read a form after https://github.com/jaydenseric/graphql-multipart-request-spec."""
    if not any(name in request.headers for name in PREFLIGHT_HEADERS):
        message = (
            "A form needs a header that no plain form can send, such as Authorization or X-Requested-With."
        )
        raise RequestError(message, code=ErrorCode.FORBIDDEN, status=HTTPStatus.FORBIDDEN)
    form = await request.form()
    operation = _decode(_text_field(form, "operations", config.max_body_bytes))
    places = _decode(_text_field(form, "map", _MAX_MAP_BYTES))
    if not isinstance(operation, dict):
        raise RequestError("operations must be a JSON object.", path=("operations",))
    if not isinstance(places, dict) or len(places) > _MAX_FILES:
        raise RequestError(f"map must be a JSON object of at most {_MAX_FILES} files.", path=("map",))
    for name, paths in places.items():
        part = _only(form, name)
        if not isinstance(part, UploadFile):
            raise RequestError("A file that the map names is missing.", path=("map", name))
        if not isinstance(paths, list) or len(paths) != 1 or not isinstance(paths[0], str):
            raise RequestError("The map gives each file a list of one path.", path=("map", name))
        _put(operation, paths[0], part)
    return from_object(operation)


def _text_field(form: FormMultiDict, name: str, limit: int) -> str:
    value = _only(form, name)
    if not isinstance(value, str):
        raise RequestError(f"The form needs the field {name}.", path=(name,))
    if len(value) > limit:
        raise RequestError(
            f"{name} is larger than {limit} characters.",
            code=ErrorCode.PAYLOAD_TOO_LARGE,
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            path=(name,),
        )
    return value


def _only(form: FormMultiDict, name: str) -> object:
    """Return the one part of a name; of two, another reader might take the other."""
    parts = form.getall(name, [])
    return parts[0] if len(parts) == 1 else None


def _put(operation: dict[str, Any], path: str, part: UploadFile) -> None:
    """Put a file where the map says, which must be a null inside the variables."""
    steps = path.split(".")
    target: Any = operation
    try:
        for step in steps[:-1]:
            target = target[int(step)] if isinstance(target, list) else target[step]
        last: Any = int(steps[-1]) if isinstance(target, list) else steps[-1]
        is_free = steps[0] == "variables" and target[last] is None
    except (KeyError, IndexError, TypeError, ValueError):
        is_free = False
    if not is_free:
        raise RequestError("The map must lead to a null in the variables.", path=("map",))
    target[last] = part
