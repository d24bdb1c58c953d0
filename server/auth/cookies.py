"""The session cookie of browsers, and the header without which it does not count.

A cookie is sent by the browser, not by the page: also for a request that somebody else's page makes. So on
HTTP it counts only beside a non-empty ``X-Requested-With`` header, which no form can send and which no
foreign page may send without asking first (Fetch, CORS-preflight). On a WebSocket, where pages can set no
header, it counts only if the ``Origin``, which the browser sets, is the address the socket was opened on.
"""

from collections.abc import Mapping

from litestar.datastructures import Cookie

CSRF_HEADER = "x-requested-with"

_NAME = "towhee_session"


def cookie_name(*, secure: bool) -> str:
    """Return the name: ``__Host-`` ties it to this host and to HTTPS, which loopback HTTP can't have."""
    return f"__Host-{_NAME}" if secure else _NAME


def session_cookie(token: str, *, secure: bool, max_age_s: float) -> Cookie:
    """Make the cookie that carries a session token."""
    return Cookie(
        key=cookie_name(secure=secure),
        value=token,
        path="/",
        max_age=int(max_age_s),
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def no_session_cookie(*, secure: bool) -> Cookie:
    """Make the cookie that removes the other one."""
    return session_cookie("", secure=secure, max_age_s=0)


def find_cookie_token(headers: Mapping[str, str], *, secure: bool, is_socket: bool) -> str | None:
    """Return the session token of the cookie, if there is one and it counts.

    Args:
        headers: by lower-case name.
        secure: whether the cookie has its ``__Host-`` name.
        is_socket: whether this is the handshake of a WebSocket.
    """
    counts = _is_own_origin(headers) if is_socket else bool(headers.get(CSRF_HEADER))
    if not counts:
        return None
    # The standard library's parser gives up at the first odd cookie, which need not be ours.
    for pair in headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == cookie_name(secure=secure):
            return value or None
    return None


def _is_own_origin(headers: Mapping[str, str]) -> bool:
    # An origin is a scheme and a host with its port, and nothing else (RFC 6454, section 6.1).
    _, separator, host = headers.get("origin", "").partition("://")
    return bool(separator and host) and host.lower() == headers.get("host", "").lower()
