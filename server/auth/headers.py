"""Headers that tell browsers what not to do with our answers."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

#: On every answer that does not say otherwise itself; a page of ours brings its own policy.
_DEFAULTS = (
    (b"x-content-type-options", b"nosniff"),
    (
        b"content-security-policy",
        b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
#: Browsers that came over HTTPS once come back that way for two years.
_HSTS = (b"strict-transport-security", b"max-age=63072000")


class SecurityHeaders:
    """Wraps an ASGI application and adds what an answer lacks.

    Args:
        app: what is protected.
        secure: whether it is reached over HTTPS.
    """

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self._app = app
        self._headers = (*_DEFAULTS, _HSTS) if secure else _DEFAULTS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                names = {name.lower() for name, _ in given}
                message["headers"] = given + [header for header in self._headers if header[0] not in names]
            await send(message)

        await self._app(scope, receive, send_protected if scope["type"] == ScopeType.HTTP else send)
