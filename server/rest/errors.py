"""What a refusal looks like over REST, and that a bug shows nothing of itself."""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from server.disconnects import ClientGone
from server.errors import ErrorCode, InvalidInput, ServiceError
from server.field_problems import InvalidParameters

_logger = logging.getLogger(__name__)

STATUS: Mapping[ErrorCode, int] = {
    ErrorCode.INVALID_INPUT: 400,
    ErrorCode.QUERY_LIMIT: 400,
    ErrorCode.INVALID_CREDENTIALS: 401,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.CONFLICT: 409,
    ErrorCode.JOB_FINISHED: 409,
    ErrorCode.DATASET_INVALID: 409,
    ErrorCode.PAYLOAD_TOO_LARGE: 413,
    ErrorCode.UNSUPPORTED_MEDIA: 415,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.QUOTA_EXCEEDED: 429,
    ErrorCode.BUSY: 429,
    ErrorCode.INTERNAL: 500,
    ErrorCode.PIPELINE_UNAVAILABLE: 503,
    ErrorCode.TIMEOUT: 504,
}
#: The client hung up; no registered status says so, and this one is widely used.
CLIENT_CLOSED_REQUEST = 499
#: Trying again helps with these; after a second where nobody knows better.
_RETRYABLE = frozenset({429, 503})
_DEFAULT_RETRY_AFTER_S = 1.0

#: What the framework refuses by status; all other 4xx are INVALID_INPUT.
_CODE_OF_STATUS: Mapping[int, ErrorCode] = {
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.NOT_FOUND,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_MEDIA,
    429: ErrorCode.RATE_LIMITED,
}

#: Routes that OpenAI clients talk to.
_OPENAI_PATHS = ("/v1/embeddings", "/v1/models")
_OPENAI_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
#: Fields of the services by the name they have in OpenAI's API.
_OPENAI_FIELDS: Mapping[str, str] = {"texts": "input", "pipeline": "model"}

_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]+)`")

Body = dict[str, Any]


def exception_handlers() -> ExceptionHandlersMap:
    """Return the handlers of the whole application."""
    return {
        ServiceError: _on_service_error,
        ClientGone: _on_client_gone,
        ValidationException: _on_validation_error,
        HTTPException: _on_http_error,
        Exception: _on_bug,
    }


def field_name(path: Sequence[str], *, names: Mapping[str, str] | None = None) -> str | None:
    """Write a path as a person would: ``("texts", "3")`` is ``texts[3]``; None for an empty one."""
    if not path:
        return None
    head, *rest = path
    steps = (f"[{step}]" if step.isdigit() else f".{step}" for step in rest)
    return (names or {}).get(head, head) + "".join(steps)


def _on_service_error(request: Request[Any, Any, Any], error: ServiceError) -> Response[Body]:
    status = STATUS[error.code]
    if error.code is ErrorCode.INTERNAL:
        return _on_bug(request, error)
    headers = {}
    if status in _RETRYABLE:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s or _DEFAULT_RETRY_AFTER_S))
    if error.code is ErrorCode.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    return _respond(request, error, status=status, headers=headers)


def _on_validation_error(request: Request[Any, Any, Any], error: ValidationException) -> Response[Body]:
    problems = [problem for problem in _problems(error) if isinstance(problem, dict)]
    if not problems:
        return _on_http_error(request, error)
    message = str(problems[0].get("message", "This can't be read."))
    key = str(problems[0].get("key", ""))
    unknown = _UNKNOWN_FIELD.search(message)
    path = tuple(step for step in re.split(r"[.\[\]]+", key) if step and step != "data")
    if unknown is not None:
        path = (*path, unknown[1])
    return _respond(request, InvalidInput(f"{message}.", path=path), status=STATUS[ErrorCode.INVALID_INPUT])


def _on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Body]:
    if error.status_code not in range(400, 500):
        return _on_bug(request, error)
    refusal = ServiceError(error.detail)
    refusal.code = _CODE_OF_STATUS.get(error.status_code, ErrorCode.INVALID_INPUT)
    return _respond(request, refusal, status=error.status_code, headers=dict(error.headers or {}))


def _on_client_gone(_request: Request[Any, Any, Any], _error: ClientGone) -> Response[None]:
    # Nobody reads it; the status is for the metrics.
    return Response(None, status_code=CLIENT_CLOSED_REQUEST)


def _on_bug(request: Request[Any, Any, Any], error: Exception) -> Response[Body]:
    # The id is all that leaves this process; the log has the rest.
    error_id = uuid4().hex
    _logger.error("error %s in %s %s", error_id, request.method, request.url.path, exc_info=error)
    hidden = ServiceError(f"Something went wrong on our side; quote the error id {error_id}.")
    return _respond(request, hidden, status=STATUS[ErrorCode.INTERNAL])


def _respond(
    request: Request[Any, Any, Any],
    error: ServiceError,
    *,
    status: int,
    headers: Mapping[str, str] | None = None,
) -> Response[Body]:
    shape = _openai_shape if request.url.path.startswith(_OPENAI_PATHS) else _shape
    return Response(
        {"error": shape(error, status)},
        status_code=status,
        headers=dict(headers or {}),
        media_type="application/json",
    )


def _shape(error: ServiceError, _status: int) -> Body:
    shape: Body = {"code": error.code.value, "message": error.message, "path": list(error.path) or None}
    if isinstance(error, InvalidParameters):
        shape["problems"] = [
            {"path": list(problem.path), "message": problem.message} for problem in error.problems
        ]
    return shape


def _openai_shape(error: ServiceError, status: int) -> Body:
    fallback = "server_error" if status >= STATUS[ErrorCode.INTERNAL] else "invalid_request_error"
    return {
        "message": error.message,
        "type": _OPENAI_TYPES.get(status, fallback),
        "param": field_name(error.path, names=_OPENAI_FIELDS),
        "code": error.code.value,
    }


def _problems(error: ValidationException) -> Sequence[object]:
    extra = error.extra
    return extra if isinstance(extra, list) else []
