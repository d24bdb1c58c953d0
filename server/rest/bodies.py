"""Reading JSON bodies: what is wrong is said with the name of the field, whatever it is."""

import json
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from server.errors import InvalidInput, UnsupportedMedia

T = TypeVar("T")

#: Where msgspec says that something is wrong, e.g. "Expected `int`, got `str` - at `$.dimensions`".
_AT: Final = re.compile(r"^(.*) - at `\$\.(\w+)")
_MISSING: Final = re.compile(r"missing required field `(\w+)`")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")


def decode_body(
    raw: bytes, body_type: type[T], *, check: Callable[[dict[str, Any]], None] | None = None
) -> T:
    """Read a JSON body.

    Args:
        raw: the bytes of the body.
        body_type: what it has to be.
        check: looks for likely mistakes in a body that is JSON but not of that type.

    Raises:
        InvalidInput: it is not such a body; the path names the field at fault.
    """
    try:
        return msgspec.json.decode(raw, type=body_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explain(raw, error, check) from error


def _explain(raw: bytes, error: Exception, check: Callable[[dict[str, Any]], None] | None) -> InvalidInput:
    try:
        # The slow parser lets half surrogate pairs pass, so that the text they are in can be named.
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return InvalidInput("The body is not valid JSON.")
    if not isinstance(body, dict):
        return InvalidInput("The body must be a JSON object.")
    if check is not None:
        try:
            check(body)
        except InvalidInput as found:
            return found
    said = str(error)
    if (missing := _MISSING.search(said)) is not None:
        return InvalidInput(f"`{missing[1]}` is required.", path=(missing[1],))
    if (unknown := _UNKNOWN.search(said)) is not None:
        return InvalidInput(f"`{unknown[1]}` is not a field here.", path=(unknown[1],))
    if (at := _AT.match(said)) is not None:
        return InvalidInput(f"{at[1]}.", path=(at[2],))
    return InvalidInput("The body can't be read.")


def check_texts(body: dict[str, Any]) -> None:
    """Find a text that is no Unicode among the fields of a body.

    Raises:
        InvalidInput: there is one; the path is its field.
    """
    for name, value in body.items():
        if isinstance(value, str) and not _is_unicode(value):
            raise InvalidInput(
                "This text is not valid Unicode: it contains half of a surrogate pair.", path=(name,)
            )


async def require_json(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuse bodies that are not called JSON: a form of somebody else's page could send those.

    It awaits nothing, but Litestar runs a guard that is no coroutine in a thread, which costs more than
    the guard.

    Raises:
        UnsupportedMedia: the Content-Type is another one.
    """
    media_type = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMedia("Send the body as JSON, with Content-Type: application/json.")


def check_input(body: dict[str, Any]) -> None:
    """Find what is wrong with ``input`` in a body that is not CreateEmbeddings.

    Raises:
        InvalidInput: something is.
    """
    given = body.get("input")
    items = given if isinstance(given, list) else [given]
    for index, item in enumerate(items):
        path = ("input", str(index)) if isinstance(given, list) else ("input",)
        if isinstance(item, int | list) and not isinstance(item, bool):
            raise InvalidInput(
                "Token arrays are not served: tokens differ from model to model. Send text.", path=path
            )
        if isinstance(item, str) and not _is_unicode(item):
            raise InvalidInput(
                "This text is not valid Unicode: it contains half of a surrogate pair.", path=path
            )
        if "input" in body and not isinstance(item, str):
            raise InvalidInput("`input` must be a string or a list of strings.", path=path)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
