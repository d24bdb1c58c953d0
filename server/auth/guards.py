"""What a handler asks about its caller."""

from typing import Any

from litestar.connection import ASGIConnection

from server.auth.middleware import PRINCIPAL, REFUSAL
from server.auth.principal import Principal
from server.errors import Unauthenticated
from server.records import Client


def require_principal(connection: ASGIConnection[Any, Any, Any, Any]) -> Principal:
    """Return who is asking.

    Raises:
        Unauthenticated: nobody we know.
        Busy: the credential could not be checked.
    """
    state = connection.scope["state"]
    principal: Principal | None = state.get(PRINCIPAL)
    if principal is not None:
        return principal
    refusal: Exception | None = state.get(REFUSAL)
    raise refusal or Unauthenticated(
        "Sign in first: send `Authorization: Bearer` with a session token or an API key."
    )


def client_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Client:
    """Return where a connection comes from, as its peer address says; forwarded headers are not believed."""
    return Client(
        ip_address=connection.client.host if connection.client else None,
        user_agent=connection.headers.get("user-agent"),
    )
