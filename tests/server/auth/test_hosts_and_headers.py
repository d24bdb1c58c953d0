"""What the outermost layers refuse and add."""

from typing import Any

import pytest
from litestar import Litestar, Response, WebSocket, get, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import TestClient

from server.auth.headers import SecurityHeaders
from server.auth.hosts import HostCheck

ALLOWED = ("127.0.0.1", "localhost", "[::1]", "Api.Example")


@get("/plain")
async def plain() -> str:
    return "here"


@get("/page")
async def page() -> Response[str]:
    return Response("here", headers={"Content-Security-Policy": "default-src 'self'"})


@websocket("/socket")
async def socket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("here")
    await socket.close()


def client_of(allowed: tuple[str, ...], *, secure: bool = False) -> TestClient[Litestar]:
    app = Litestar([plain, page, socket])
    app.asgi_handler = HostCheck(SecurityHeaders(app.asgi_handler, secure=secure), allowed)
    return TestClient(app)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "LOCALHOST:1", "[::1]", "[::1]:8000", "api.example"]
)
def test_our_own_names_are_served_at_any_port(host: str) -> None:
    with client_of(ALLOWED) as client:
        assert "here" == client.get("/plain", headers={"Host": host}).text


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8000",
        "api.example.",
        "",
        ":8000",
        "::1",
        "localhost:80a",
        "localhost@evil.example",
        "localhost, evil.example",
    ],
)
@pytest.mark.parametrize("path", ["/plain", "/no/such/route"])
def test_other_names_are_not(host: str, path: str) -> None:
    with client_of(ALLOWED) as client:
        answer = client.get(path, headers={"Host": host})

    assert (400, "INVALID_INPUT") == (answer.status_code, answer.json()["error"]["code"])


@pytest.mark.parametrize(
    ("hosts", "status"), [([], 400), ([b"localhost"], 204), ([b"localhost", b"localhost"], 400)]
)
async def test_there_is_exactly_one_host_header(hosts: list[bytes], status: int) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def send(message: Any) -> None:  # noqa: ANN401 - ASGI
        sent.append(message)

    scope: Any = {"type": "http", "headers": [(b"host", host) for host in hosts]}
    await HostCheck(app, ALLOWED)(scope, None, send)  # type: ignore[arg-type]

    assert status == sent[0]["status"]


def test_a_star_allows_every_name() -> None:
    with client_of(("*",)) as client:
        assert 200 == client.get("/plain", headers={"Host": "anything.example"}).status_code


def test_sockets_are_checked_too() -> None:
    with client_of(ALLOWED) as client:
        with client.websocket_connect("/socket", headers={"Host": "localhost"}) as session:
            assert "here" == session.receive_text()
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect("/socket", headers={"Host": "evil.example"}),
        ):
            pass

    assert 1008 == refused.value.code


@pytest.mark.parametrize("path", ["/plain", "/no/such/route"])
def test_every_answer_tells_browsers_what_not_to_do(path: str) -> None:
    with client_of(("*",)) as client:
        headers = client.get(path).headers

    assert ("nosniff", "DENY", "no-referrer", "no-store") == (
        headers["x-content-type-options"],
        headers["x-frame-options"],
        headers["referrer-policy"],
        headers["cache-control"],
    )
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "strict-transport-security" not in headers


def test_a_page_brings_its_own_policy() -> None:
    with client_of(("*",)) as client:
        assert ["default-src 'self'"] == client.get("/page").headers.get_list("content-security-policy")


def test_over_https_browsers_are_told_to_stay_there() -> None:
    with client_of(("*",), secure=True) as client:
        assert "max-age=63072000" == client.get("/plain").headers["strict-transport-security"]
