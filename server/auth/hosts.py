"""The Host header is checked: a name that merely resolves to us is not one of ours (DNS rebinding)."""

from collections.abc import Iterable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

_ANY = "*"
_REFUSAL = (
    b'{"error":{"code":"INVALID_INPUT","message":"This server does not answer to that Host.","path":null}}'
)
#: Policy violation (RFC 6455, section 7.4.1); before the handshake is accepted a server answers 403.
_POLICY_VIOLATION = 1008


class HostCheck:
    """Wraps an HTTP and WebSocket application; requests for other hosts don't reach it.

    Args:
        app: what is protected.
        allowed_hosts: names without ports, IPv6 addresses in brackets; ``*`` allows all.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str]) -> None:
        self._app = app
        self._allowed = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or refuse it."""
        if self._is_allowed(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == ScopeType.WEBSOCKET:
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "Host not allowed"})
        else:
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_REFUSAL))]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSAL, "more_body": False})

    def _is_allowed(self, scope: Scope) -> bool:
        if _ANY in self._allowed:
            return True
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        # Two Host headers mean that somebody between us and the client may read the other one.
        return len(hosts) == 1 and _without_port(hosts[0].decode("latin-1")) in self._allowed


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    is_port = colon == ":" and port.isascii() and port.isdigit()
    return (name if is_port else host).lower()
