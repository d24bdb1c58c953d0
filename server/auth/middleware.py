"""Who is asking: from the Authorization header, or the cookie of a browser, to a principal."""

from collections.abc import Callable

from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from server.auth.authenticator import Authenticator
from server.auth.cookies import find_cookie_token
from server.auth.principal import Principal
from server.errors import ServiceError, Unauthenticated

#: Keys of ``scope["state"]``.
PRINCIPAL = "principal"
REFUSAL = "authentication_refusal"

_BEARER = "bearer "


class Authentication(ASGIMiddleware):
    """Sets ``scope["state"]["principal"]`` to a Principal, or to None.

    An Authorization header wins over a cookie. One that is refused is remembered as
    ``scope["state"]["authentication_refusal"]`` and raised by ``require_principal``, so that public routes
    still answer; a cookie that is refused counts as none.
    """

    scopes = (ScopeType.HTTP, ScopeType.WEBSOCKET)

    def __init__(self, find_authenticator: Callable[[], Authenticator], *, secure_cookies: bool) -> None:
        self._find_authenticator = find_authenticator
        self._secure_cookies = secure_cookies

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Authenticate, then go on."""
        state = scope["state"]
        state[PRINCIPAL] = None
        try:
            state[PRINCIPAL] = await self._authenticate(scope)
        except ServiceError as refusal:
            state[REFUSAL] = refusal
        await next_app(scope, receive, send)

    async def _authenticate(self, scope: Scope) -> Principal | None:
        headers = Headers.from_scope(scope)
        header = headers.get("authorization")
        if header is not None:
            return await self._find_authenticator().authenticate(_bearer_token(header))
        token = find_cookie_token(
            headers, secure=self._secure_cookies, is_socket=scope["type"] == ScopeType.WEBSOCKET
        )
        if token is None:
            return None
        try:
            return await self._find_authenticator().authenticate(token)
        except Unauthenticated:
            # A browser goes on sending the cookie of an old session, also to the log-in.
            return None


def _bearer_token(header: str) -> str:
    if header[: len(_BEARER)].lower() != _BEARER:
        raise Unauthenticated("The Authorization header must be `Bearer` and a token.")
    return header[len(_BEARER) :].strip()
