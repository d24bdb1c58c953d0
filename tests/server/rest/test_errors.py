"""Refusals over REST: stable codes, field paths, and nothing of a bug."""

from typing import Any

import msgspec
import pytest
from litestar import Litestar, get, post
from litestar.exceptions import ClientException, HTTPException, TooManyRequestsException, ValidationException
from litestar.params import JSONBody
from litestar.testing import TestClient

from server.disconnects import ClientGone
from server.errors import ErrorCode, ServiceError, Unauthenticated
from server.rest.errors import STATUS, exception_handlers, field_name


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """A body that the framework decodes."""

    count: int


def answer_to(error: Exception, path: str = "/v1/things") -> Any:  # noqa: ANN401 - a response
    @get(path, sync_to_thread=False)
    def fail() -> None:
        raise error

    with TestClient(Litestar([fail], exception_handlers=exception_handlers(), logging_config=None)) as client:
        return client.get(path)


def refusal(code: ErrorCode, **more: Any) -> ServiceError:  # noqa: ANN401 - arguments of the error
    error = ServiceError("It was so.", **more)
    error.code = code
    return error


@pytest.mark.parametrize("code", [code for code in ErrorCode if code is not ErrorCode.INTERNAL])
def test_every_code_has_its_status(code: ErrorCode) -> None:
    answer = answer_to(refusal(code, path=("texts", "3")))

    assert STATUS[code] == answer.status_code
    assert {"error": {"code": code.value, "message": "It was so.", "path": ["texts", "3"]}} == answer.json()
    assert (answer.status_code in {429, 503}) == ("retry-after" in answer.headers)


def test_a_time_to_wait_is_rounded_up() -> None:
    assert "3" == answer_to(refusal(ErrorCode.BUSY, retry_after_s=2.1)).headers["retry-after"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/models"])
def test_openai_clients_get_errors_of_their_shape(path: str) -> None:
    answer = answer_to(refusal(ErrorCode.INVALID_INPUT, path=("texts", "3")), path)

    assert {
        "error": {
            "message": "It was so.",
            "type": "invalid_request_error",
            "param": "input[3]",
            "code": "INVALID_INPUT",
        }
    } == answer.json()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unauthenticated("x"), "authentication_error"),
        (refusal(ErrorCode.BUSY), "rate_limit_error"),
        (refusal(ErrorCode.TIMEOUT), "server_error"),
        (KeyError("secret"), "server_error"),
    ],
)
def test_openai_types_follow_the_status(error: Exception, expected: str) -> None:
    body = answer_to(error, "/v1/embeddings").json()["error"]

    assert (expected, None) == (body["type"], body["param"])


@pytest.mark.parametrize(
    "error", [KeyError("secret"), refusal(ErrorCode.INTERNAL), HTTPException("secret", status_code=500)]
)
def test_a_bug_shows_an_id_and_the_log_the_rest(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    answer = answer_to(error)

    body = answer.json()["error"]
    assert (500, "INTERNAL") == (answer.status_code, body["code"])
    assert "secret" not in answer.text
    assert "It was so" not in answer.text
    error_id = body["message"].rstrip(".").rpartition(" ")[2]
    assert error_id in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ClientException("bad"), 400, "INVALID_INPUT"),
        (ValidationException("bad"), 400, "INVALID_INPUT"),
        (ValidationException("bad", extra={"a": 1}), 400, "INVALID_INPUT"),
        (TooManyRequestsException("slow", headers={"Retry-After": "7"}), 429, "RATE_LIMITED"),
        (HTTPException("big", status_code=413), 413, "PAYLOAD_TOO_LARGE"),
    ],
)
def test_what_the_framework_refuses_has_a_code(error: Exception, status: int, code: str) -> None:
    answer = answer_to(error)

    assert (status, code, None) == (
        answer.status_code,
        answer.json()["error"]["code"],
        answer.json()["error"]["path"],
    )


def test_unknown_routes_and_methods_have_a_code() -> None:
    @get("/v1/things", sync_to_thread=False)
    def things() -> None: ...

    with TestClient(
        Litestar([things], exception_handlers=exception_handlers(), logging_config=None)
    ) as client:
        missing, wrong = client.get("/v1/nothing"), client.post("/v1/things")

    assert (404, "NOT_FOUND") == (missing.status_code, missing.json()["error"]["code"])
    assert (405, "INVALID_INPUT") == (wrong.status_code, wrong.json()["error"]["code"])
    assert "GET" in wrong.headers["allow"]


@pytest.mark.parametrize(
    ("body", "path"),
    [({"count": "x"}, ["count"]), ({"count": 1, "more": 2}, ["more"]), ({}, None), ([1], None), (None, None)],
)
def test_a_body_the_framework_cannot_decode_is_invalid_input(body: object, path: list[str] | None) -> None:
    @post("/v1/things", sync_to_thread=False)
    def make(data: JSONBody[Body]) -> None: ...

    with TestClient(Litestar([make], exception_handlers=exception_handlers(), logging_config=None)) as client:
        answer = client.post("/v1/things", json=body)

    assert (400, "INVALID_INPUT", path) == (
        answer.status_code,
        answer.json()["error"]["code"],
        answer.json()["error"]["path"],
    )


def test_nobody_is_told_when_the_client_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    assert 499 == answer_to(ClientGone()).status_code
    assert [] == [record for record in caplog.records if record.name.startswith("server")]


@pytest.mark.parametrize(
    ("path", "expected"),
    [((), None), (("texts", "3"), "texts[3]"), (("a", "b", "0"), "a.b[0]"), (("pipeline",), "pipeline")],
)
def test_a_path_is_written_as_a_person_would(path: tuple[str, ...], expected: str | None) -> None:
    assert expected == field_name(path)
