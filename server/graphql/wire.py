"""JSON in and out, and which JSON the client understands."""

import json
from http import HTTPStatus
from typing import Any, NoReturn

import msgspec
import numpy as np
import orjson

from server.errors import ErrorCode

JSON = "application/json; charset=utf-8"
#: https://graphql.github.io/graphql-over-http/draft/#sec-application-graphql-response-json
GRAPHQL_JSON = "application/graphql-response+json; charset=utf-8"


class RequestError(Exception):
    """A request that holds no operation, so that there is nothing to run."""

    def __init__(
        self,
        message: str,
        *,
        code: ErrorCode = ErrorCode.INVALID_INPUT,
        status: int = HTTPStatus.BAD_REQUEST,
        path: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.extensions: dict[str, object] = {"code": code.value}
        if path:
            self.extensions["path"] = list(path)

    def body(self) -> dict[str, object]:
        """Say it as GraphQL does."""
        return {"errors": [{"message": self.message, "extensions": self.extensions}]}


class AnswerFormat(msgspec.Struct, frozen=True):
    """How an answer is written."""

    media_type: str
    #: Plain application/json means 200 for each request that could be read: old clients stop at others.
    always_ok: bool = False


_GRAPHQL_ANSWER = AnswerFormat(GRAPHQL_JSON)
_PLAIN_ANSWER = AnswerFormat(JSON, always_ok=True)
_DEFAULT_ANSWER = AnswerFormat(JSON)


def answer_format(accept: str) -> AnswerFormat:
    """Choose a format by the Accept header; who accepts anything gets JSON with honest statuses."""
    if "application/graphql-response+json" in accept:
        return _GRAPHQL_ANSWER
    if "application/json" in accept:
        return _PLAIN_ANSWER
    return _DEFAULT_ANSWER


def decode_json(data: str | bytes) -> object:
    """Read JSON.

    A string may hold half of a surrogate pair here: the field that does not want it says so with its path.

    Raises:
        json.JSONDecodeError: it is no JSON, is no UTF-8 or is nested too deeply.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        marker = "\\u" if isinstance(data, str) else b"\\u"
        if marker not in data:  # type: ignore[operator]
            raise
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise json.JSONDecodeError("malformed JSON", "", 0) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def encode_json(data: object) -> bytes:
    """Write JSON, float32 arrays in their shortest form."""
    try:
        return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        # A message may quote half of a surrogate pair, which is no UTF-8 but can be escaped.
        return json.dumps(data, default=_rows, separators=(",", ":")).encode()


def _rows(value: object) -> Any:  # noqa: ANN401, what json makes of it
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(type(value).__name__)
