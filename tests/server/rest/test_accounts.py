"""Accounts over REST."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient as Client

from tests.support.accounts import PASSWORD
from tests.support.rest import MakeApp, ask_socket, connect

ACCOUNT = {"email": "a@b.example", "password": PASSWORD}


async def enter(client: Client, email: str = "a@b.example") -> dict[str, str]:
    """Sign up, log in, and return the header that says so."""
    body = {"email": email, "password": PASSWORD}
    assert 201 == (await client.post("/v1/users", json=body)).status_code
    answer = await client.post("/v1/sessions", json=body)
    assert 201 == answer.status_code
    client.cookies.clear()
    return bearer(answer.json()["token"])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def error_of(answer: Any) -> tuple[int, str, list[str] | None]:  # noqa: ANN401 - a response
    error = answer.json()["error"]
    assert error["message"]
    return answer.status_code, error["code"], error["path"]


async def test_from_nothing_to_a_key_and_back(client: Client) -> None:
    session = await enter(client)
    made = await client.post("/v1/keys", json={"name": "ci", "scopes": ["READ", "EMBED"]}, headers=session)
    assert 201 == made.status_code
    key = made.json()["api_key"]
    by_key = bearer(made.json()["secret"])

    assert {"credential": key["id"]} == (await client.get("/whoami", headers=by_key)).json()
    assert ["EMBED", "READ"] == key["scopes"]
    assert {"data": [key], "has_more": False, "next_cursor": None} == (
        await client.get("/v1/keys", headers=session)
    ).json()

    assert 204 == (await client.delete(f"/v1/keys/{key['id']}", headers=session)).status_code
    assert (401, "UNAUTHENTICATED", None) == error_of(await client.get("/whoami", headers=by_key))
    [listed] = (await client.get("/v1/keys", headers=session)).json()["data"]
    assert listed["revoked_at"] is not None
    assert "secret" not in listed


async def test_signing_up_answers_with_the_account_and_without_the_password(client: Client) -> None:
    answer = await client.post("/v1/users", json=ACCOUNT)

    assert {"id", "email", "created_at"} == set(answer.json())
    assert "a@b.example" == answer.json()["email"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"email": "no address", "password": PASSWORD}, ["email"]),
        ({"email": "a\0@b.example", "password": PASSWORD}, ["email"]),
        ({"email": "a@b.example", "password": "short"}, ["password"]),
        ({"email": "a@b.example", "password": "x" * 300}, ["password"]),
        ({"email": "a@b.example", "password": PASSWORD + "\0"}, ["password"]),
        ({"email": "a@b.example", "password": 15}, ["password"]),
        ({"email": None, "password": PASSWORD}, ["email"]),
        ({"password": PASSWORD}, ["email"]),
        ({**ACCOUNT, "admin": True}, ["admin"]),
        ([ACCOUNT], None),
        ("text", None),
        (1, None),
    ],
)
async def test_a_bad_body_names_its_field(client: Client, body: object, path: list[str] | None) -> None:
    assert (400, "INVALID_INPUT", path) == error_of(await client.post("/v1/users", json=body))


@pytest.mark.parametrize("url", ["/v1/users", "/v1/sessions"])
@pytest.mark.parametrize(
    ("content", "path"),
    [
        (b"", None),
        (b"{", None),
        (b"null", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b'{"email": "a@b.example", "password": "\\ud800 and fourteen more"}', ["password"]),
    ],
)
async def test_bytes_that_are_no_json_are_refused(
    client: Client, url: str, content: bytes, path: list[str] | None
) -> None:
    answer = await client.post(url, content=content, headers={"Content-Type": "application/json"})

    assert (400, "INVALID_INPUT", path) == error_of(answer)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_what_a_form_could_send_is_no_json(client: Client, media_type: str) -> None:
    answer = await client.post("/v1/sessions", content=b"{}", headers={"Content-Type": media_type})

    assert (415, "UNSUPPORTED_MEDIA", None) == error_of(answer)


async def test_a_taken_address_is_a_conflict(client: Client) -> None:
    await client.post("/v1/users", json=ACCOUNT)

    assert (409, "CONFLICT", ["email"]) == error_of(await client.post("/v1/users", json=ACCOUNT))


async def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(client: Client) -> None:
    await client.post("/v1/users", json=ACCOUNT)

    wrong = await client.post("/v1/sessions", json={**ACCOUNT, "password": "not it, not it at all"})
    unknown = await client.post("/v1/sessions", json={**ACCOUNT, "email": "nobody@b.example"})

    assert (401, "INVALID_CREDENTIALS", None) == error_of(wrong)
    assert (wrong.status_code, wrong.json()) == (unknown.status_code, unknown.json())
    assert "set-cookie" not in wrong.headers


async def test_guessing_ends_in_a_time_to_wait(client: Client) -> None:
    for _ in range(20):
        await client.post("/v1/sessions", json={**ACCOUNT, "password": "not it, not it at all"})

    answer = await client.post("/v1/sessions", json=ACCOUNT)

    assert (429, "RATE_LIMITED", None) == error_of(answer)
    assert 1 <= int(answer.headers["retry-after"]) <= 30


async def test_logging_out_ends_this_session_only(client: Client) -> None:
    first = await enter(client)
    second = bearer((await client.post("/v1/sessions", json=ACCOUNT)).json()["token"])

    answer = await client.delete("/v1/sessions", headers=first)

    assert 204 == answer.status_code
    assert (401, "UNAUTHENTICATED", None) == error_of(await client.get("/whoami", headers=first))
    assert 200 == (await client.get("/whoami", headers=second)).status_code


async def test_the_list_of_sessions_knows_the_current_one_and_can_end_the_others(client: Client) -> None:
    first = await enter(client)
    body = {**ACCOUNT, "device_name": "phone"}
    second = bearer((await client.post("/v1/sessions", json=body)).json()["token"])

    listed = (await client.get("/v1/sessions", headers=second)).json()["data"]
    assert [("phone", True), (None, False)] == [(each["device_name"], each["is_current"]) for each in listed]

    ended = await client.delete(f"/v1/sessions/{listed[1]['id']}", headers=second)
    assert 204 == ended.status_code
    assert (401, "UNAUTHENTICATED", None) == error_of(await client.get("/whoami", headers=first))


async def test_an_api_key_has_the_rights_of_its_scopes(client: Client) -> None:
    session = await enter(client)
    made = await client.post("/v1/keys", json={"name": "ci", "scopes": ["EMBED"]}, headers=session)
    by_key = bearer(made.json()["secret"])
    [current] = (await client.get("/v1/sessions", headers=session)).json()["data"]

    for answer in (
        await client.post("/v1/keys", json={"name": "more", "scopes": ["EMBED"]}, headers=by_key),
        await client.get("/v1/keys", headers=by_key),
        await client.get("/v1/sessions", headers=by_key),
        await client.delete("/v1/sessions", headers=by_key),
        await client.delete(f"/v1/sessions/{current['id']}", headers=by_key),
    ):
        assert (403, "FORBIDDEN", None) == error_of(answer)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"name": "", "scopes": ["READ"]}, ["name"]),
        ({"name": "\ud800", "scopes": ["READ"]}, ["name"]),
        ({"name": "ci", "scopes": []}, ["scopes"]),
        ({"name": "ci", "scopes": ["ROOT"]}, ["scopes"]),
        ({"name": "ci", "scopes": "READ"}, ["scopes"]),
        ({"name": "ci", "scopes": ["READ"], "expires_at": "yesterday"}, ["expires_at"]),
        ({"name": "ci", "scopes": ["READ"], "expires_at": "2999-01-01T00:00:00"}, ["expires_at"]),
        ({"name": "ci", "scopes": ["READ"], "expires_at": "2001-01-01T00:00:00Z"}, ["expires_at"]),
    ],
)
async def test_a_bad_key_names_its_field(client: Client, body: object, path: list[str]) -> None:
    session = await enter(client)

    answer = await client.post(
        "/v1/keys",
        content=json.dumps(body),
        headers={**session, "Content-Type": "application/json"},
    )

    assert (400, "INVALID_INPUT", path) == error_of(answer)


async def test_a_key_ends_when_it_was_told_to(client: Client) -> None:
    session = await enter(client)
    soon = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
    body = {"name": "ci", "scopes": ["READ"], "expires_at": soon}
    by_key = bearer((await client.post("/v1/keys", json=body, headers=session)).json()["secret"])

    async with asyncio.timeout(5):
        while (answer := await client.get("/whoami", headers=by_key)).status_code == 200:
            pass

    assert (401, "UNAUTHENTICATED", None) == error_of(answer)


@pytest.mark.parametrize("what", ["keys", "sessions"])
async def test_what_is_somebody_elses_is_not_found(client: Client, what: str) -> None:
    mine = await enter(client)
    theirs = await enter(client, "c@d.example")
    await client.post("/v1/keys", json={"name": "ci", "scopes": ["READ"]}, headers=theirs)
    [thing] = (await client.get(f"/v1/{what}", headers=theirs)).json()["data"]

    for thing_id in (thing["id"], str(uuid4()), "no-id"):
        answer = await client.delete(f"/v1/{what}/{thing_id}", headers=mine)
        assert (404, "NOT_FOUND") == error_of(answer)[:2]
    assert [thing] == (await client.get(f"/v1/{what}", headers=theirs)).json()["data"]


async def test_lists_come_in_pages(client: Client) -> None:
    session = await enter(client)
    for number in range(5):
        body = {"name": str(number), "scopes": ["READ"]}
        await client.post("/v1/keys", json=body, headers=session)

    names: list[str] = []
    url: str | None = "/v1/keys?first=2"
    while url is not None:
        page = (await client.get(url, headers=session)).json()
        names += [key["name"] for key in page["data"]]
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)
        url = None if cursor is None else f"/v1/keys?first=2&after={cursor}"

    assert ["4", "3", "2", "1", "0"] == names


@pytest.mark.parametrize(
    ("query", "path"), [("first=0", ["first"]), ("first=x", ["first"]), ("after=x", ["after"])]
)
async def test_a_bad_page_names_its_parameter(client: Client, query: str, path: list[str]) -> None:
    session = await enter(client)

    assert (400, "INVALID_INPUT", path) == error_of(await client.get(f"/v1/keys?{query}", headers=session))


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer x", "Basic YTpi", "Bearer twh_s_" + "0" * 33, "twh_s_" + "0" * 33]
)
async def test_a_credential_that_is_none_is_refused_but_not_by_public_routes(
    client: Client, header: str
) -> None:
    answer = await client.get("/whoami", headers={"Authorization": header})

    assert (401, "UNAUTHENTICATED", None) == error_of(answer)
    assert "Bearer" == answer.headers["www-authenticate"]
    assert "everybody" == (await client.get("/public", headers={"Authorization": header})).text


async def test_nobody_is_asked_to_sign_in(client: Client) -> None:
    for method, url in (("GET", "/v1/keys"), ("DELETE", "/v1/sessions"), ("GET", "/v1/sessions")):
        assert (401, "UNAUTHENTICATED", None) == error_of(await client.request(method, url))


async def test_the_cookie_counts_only_beside_a_header_no_form_can_send(client: Client) -> None:
    await client.post("/v1/users", json=ACCOUNT)
    answer = await client.post("/v1/sessions", json=ACCOUNT)
    cookie = answer.headers["set-cookie"]

    assert cookie.startswith("towhee_session=twh_s_")
    assert {"httponly", "samesite=strict", "path=/", "max-age=3600"} == {
        part.strip().lower() for part in cookie.split(";")[1:]
    }
    ajax = {"X-Requested-With": "page"}
    assert 401 == (await client.get("/whoami")).status_code
    assert 401 == (await client.get("/whoami", headers={"X-Requested-With": ""})).status_code
    assert 200 == (await client.get("/whoami", headers=ajax)).status_code

    gone = await client.delete("/v1/sessions", headers=ajax)
    assert "max-age=0" in gone.headers["set-cookie"].lower()
    assert 401 == (await client.get("/whoami", headers=ajax)).status_code


async def test_over_https_the_cookie_belongs_to_this_host_alone(make_app: MakeApp) -> None:
    async with connect(make_app(secure_cookies=True), base_url="https://testserver.local") as client:
        await client.post("/v1/users", json=ACCOUNT)
        cookie = (await client.post("/v1/sessions", json=ACCOUNT)).headers["set-cookie"]
        answer = await client.get("/whoami", headers={"X-Requested-With": "page"})

    assert cookie.startswith("__Host-towhee_session=")
    assert {"secure", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    assert "domain" not in cookie.lower()
    assert 200 == answer.status_code


async def test_the_cookie_is_found_among_odd_ones(client: Client) -> None:
    session = await enter(client)
    cookies = f"odd/name=1; =; b; towhee_session={session['Authorization'][7:]}; c=d"
    headers = {"X-Requested-With": "page", "Cookie": cookies}

    assert 200 == (await client.get("/whoami", headers=headers)).status_code


async def test_an_old_cookie_does_not_keep_anybody_out(client: Client) -> None:
    session = await enter(client)
    old = {"X-Requested-With": "page", "Cookie": f"towhee_session={session['Authorization'][7:]}"}
    await client.delete("/v1/sessions", headers=session)

    assert 401 == (await client.get("/whoami", headers=old)).status_code
    assert 201 == (await client.post("/v1/sessions", json=ACCOUNT, headers=old)).status_code


@pytest.mark.parametrize(
    "cookie", ["", "=", "towhee_session", "a=b; towhee_session=", "towhee_session=\x01;;,"]
)
async def test_a_strange_cookie_is_none(client: Client, cookie: str) -> None:
    headers = {"X-Requested-With": "page", "Cookie": cookie}

    assert 401 == (await client.get("/whoami", headers=headers)).status_code


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Origin": "http://testserver.local"}, "known"),
        ({"Origin": "http://evil.example"}, "unknown"),
        ({"Origin": "null"}, "unknown"),
        ({"Origin": "http://[evil"}, "unknown"),
        ({}, "unknown"),
        ({"X-Requested-With": "page"}, "unknown"),
    ],
)
async def test_a_socket_takes_the_cookie_only_from_our_own_origin(
    client: Client, make_app: MakeApp, headers: dict[str, str], expected: str
) -> None:
    session = await enter(client)
    cookie = f"towhee_session={session['Authorization'][7:]}"

    given = {"Host": "testserver.local", "Cookie": cookie, **headers}

    assert expected == await ask_socket(make_app(), "/socket", given)


async def test_a_crowd_that_logs_in_together_gets_no_cookies_mixed(client: Client) -> None:
    emails = [f"{number}@b.example" for number in range(24)]

    async def come_in(email: str) -> bool:
        body = {"email": email, "password": PASSWORD}
        user = (await client.post("/v1/users", json=body)).json()
        answer = await client.post("/v1/sessions", json=body)
        done = answer.json()
        cookie = answer.headers["set-cookie"].partition(";")[0].partition("=")[2]
        mine = (await client.get("/whoami", headers=bearer(cookie))).json()
        return (user["id"], done["token"], done["session"]["id"]) == (
            done["user"]["id"],
            cookie,
            mine["credential"],
        )

    assert all(await asyncio.gather(*(come_in(email) for email in emails)))
