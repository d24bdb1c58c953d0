"""Requests that may be sent twice: their key comes in the body, or in a header as HTTP clients do it."""

from typing import Annotated

from litestar.params import HeaderParameter

from server.errors import InvalidInput

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="The same key with the same request answers with what was made the first time. "
        "`idempotency_key` in the body is the same.",
    ),
]


def chosen_key(in_body: str | None, in_header: str | None) -> str | None:
    """Return the key of a request, wherever it is.

    Raises:
        InvalidInput: there are two.
    """
    if in_body is not None and in_header is not None and in_body != in_header:
        raise InvalidInput("The header Idempotency-Key has another key.", path=("idempotency_key",))
    return in_header if in_body is None else in_body
