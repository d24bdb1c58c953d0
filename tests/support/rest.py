"""Fixtures: a small application of the REST controllers of accounts, on real services."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, WebSocket, get, websocket
from litestar.di import Provide

from server.auth.accounts import Accounts
from server.auth.api_keys import ApiKeys
from server.auth.authenticator import Authenticator
from server.auth.guards import require_principal
from server.auth.middleware import Authentication
from server.auth.sessions import Sessions
from server.rest.accounts import AccountsController
from server.rest.errors import exception_handlers


@get("/whoami", sync_to_thread=False)
def whoami(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Say who is asking."""
    return {"credential": str(require_principal(request).credential_id)}


@get("/public", sync_to_thread=False)
def public() -> str:
    """Ask for nobody."""
    return "everybody"


@websocket("/socket")
async def socket(socket: WebSocket[Any, Any, Any]) -> None:
    """Say whether somebody is asking."""
    await socket.accept()
    await socket.send_text("known" if socket.scope["state"]["principal"] else "unknown")
    await socket.close()


def connect(app: Litestar, *, base_url: str = "http://testserver.local") -> httpx.AsyncClient:
    """Make an HTTP client of an application, in this event loop, where its services live."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base_url)


async def ask_socket(app: Litestar, path: str, headers: Mapping[str, str]) -> str:
    """Open a socket of an application with these headers and return the first text it sends."""
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:  # noqa: ANN401 - an ASGI message
        sent.append(message)

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "subprotocols": [],
    }
    await app(scope, receive, send)  # type: ignore[arg-type]
    [text] = [message["text"] for message in sent if message["type"] == "websocket.send"]
    return str(text)


MakeApp = Callable[..., Litestar]


@pytest.fixture
def make_app(
    accounts: Accounts, sessions: Sessions, api_keys: ApiKeys, authenticator: Authenticator
) -> MakeApp:
    """Put an application together from the services of this test."""

    def make_app(*handlers: Any, secure_cookies: bool = False) -> Litestar:  # noqa: ANN401 - route handlers
        provided = {
            "accounts": lambda: accounts,
            "sessions": lambda: sessions,
            "api_keys": lambda: api_keys,
            "secure_cookies": lambda: secure_cookies,
        }
        dependencies = {name: Provide(give, sync_to_thread=False) for name, give in provided.items()}
        dependencies["principal"] = Provide(_principal, sync_to_thread=False)
        return Litestar(
            [AccountsController, whoami, public, socket, *handlers],
            dependencies=dependencies,
            middleware=[Authentication(lambda: authenticator, secure_cookies=secure_cookies)],
            exception_handlers=exception_handlers(),
            debug=False,
            logging_config=None,
        )

    return make_app


@pytest.fixture
async def client(make_app: MakeApp) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of that application."""
    async with connect(make_app()) as client:
        yield client


def _principal(request: Request[Any, Any, Any]) -> Any:  # noqa: ANN401 - a dependency
    return require_principal(request)
