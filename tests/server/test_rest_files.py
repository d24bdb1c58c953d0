"""`/v1/files`: multipart in, attachments out."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar
from PIL import Image

from server.errors import InvalidInput, PayloadTooLarge
from server.rest.attachments import content_disposition
from server.rest.multipart import open_file_part
from tests.support.embedding import MakePrincipal
from tests.support.embedding_app import SignedIn


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 3), "teal").save(buffer, "PNG")
    return buffer.getvalue()


async def _upload(rest: httpx.AsyncClient, content: bytes, name: str = "a.txt") -> dict[str, Any]:
    answer = await rest.post("/v1/files", files={"file": (name, content)})
    assert 201 == answer.status_code, answer.text
    file: dict[str, Any] = answer.json()
    return file


async def test_an_uploaded_file_says_what_it_is_and_is_listed(rest: httpx.AsyncClient) -> None:
    file = await _upload(rest, _png(), "löwe.txt")

    assert ("löwe.txt", "image/png", "IMAGE") == (file["name"], file["media_type"], file["modality"])
    assert file == (await rest.get(f"/v1/files/{file['id']}")).json()
    assert [file] == (await rest.get("/v1/files")).json()["data"]


async def test_the_bytes_come_back_as_an_attachment_that_can_do_no_harm(rest: httpx.AsyncClient) -> None:
    page = b"<html><script>alert(document.cookie)</script></html>"
    file = await _upload(rest, page, 'x";\r\nSet-Cookie: a=b.html')

    answer = await rest.get(file["url"])

    assert (200, page) == (answer.status_code, answer.content)
    assert file["media_type"] == answer.headers["content-type"]
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    assert "nosniff" == answer.headers["x-content-type-options"]
    assert "sandbox" in answer.headers["content-security-policy"]
    assert str(len(page)) == answer.headers["content-length"]
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a b.png", "attachment; filename=\"a b.png\"; filename*=UTF-8''a%20b.png"),
        ("löwe.png", "attachment; filename=\"l_we.png\"; filename*=UTF-8''l%C3%B6we.png"),
        ('"\\%', "attachment; filename=\"___\"; filename*=UTF-8''%22%5C%25"),
    ],
)
def test_names_are_quoted_for_old_and_new_clients(name: str, header: str) -> None:
    assert header == content_disposition(name)


@given(st.text())
def test_no_name_breaks_out_of_the_header(name: str) -> None:
    header = content_disposition(name.encode("utf-8", "replace").decode())

    assert header.isascii()
    assert header.isprintable()
    assert 2 == header.count('"')


async def test_somebody_elses_file_is_not_there(
    rest: httpx.AsyncClient, signed_in: SignedIn, make_principal: MakePrincipal
) -> None:
    file = await _upload(rest, b"mine")
    signed_in.principal = await make_principal()

    statuses = [
        (await rest.get(f"/v1/files/{file['id']}")).status_code,
        (await rest.get(file["url"])).status_code,
        (await rest.get(f"/v1/files/{file['id']}/selection")).status_code,
        (await rest.delete(f"/v1/files/{file['id']}")).status_code,
    ]

    assert [404] * 4 == statuses
    assert [] == (await rest.get("/v1/files")).json()["data"]


async def test_a_deleted_file_is_gone(rest: httpx.AsyncClient) -> None:
    file = await _upload(rest, b"short-lived")

    assert 204 == (await rest.delete(f"/v1/files/{file['id']}")).status_code
    assert 404 == (await rest.get(file["url"])).status_code
    assert 404 == (await rest.delete(f"/v1/files/{file['id']}")).status_code


async def test_lists_are_paged(rest: httpx.AsyncClient) -> None:
    files = [await _upload(rest, bytes([65 + number])) for number in range(3)]

    first = (await rest.get("/v1/files", params={"first": 2})).json()
    rest_of_it = (await rest.get("/v1/files", params={"first": 2, "after": first["next_cursor"]})).json()

    ids = [file["id"] for file in (*first["data"], *rest_of_it["data"])]
    assert [file["id"] for file in reversed(files)] == ids
    assert None is rest_of_it["next_cursor"]


@pytest.mark.parametrize("params", [{"first": 0}, {"first": 101}, {"first": "x"}, {"after": "nonsense"}])
async def test_bad_paging_is_invalid_input(rest: httpx.AsyncClient, params: dict[str, Any]) -> None:
    answer = await rest.get("/v1/files", params=params)

    assert (400, "INVALID_INPUT") == (answer.status_code, answer.json()["error"]["code"])


async def test_the_choice_for_a_file_can_be_asked_for(rest: httpx.AsyncClient) -> None:
    picture, archive = await _upload(rest, _png()), await _upload(rest, b"PK\x05\x06" + bytes(18))

    chosen = (await rest.get(f"/v1/files/{picture['id']}/selection")).json()
    refused = await rest.get(f"/v1/files/{archive['id']}/selection")

    assert ("image-a", "IMAGE") == (chosen["pipeline"], chosen["modality"])
    assert (415, "UNSUPPORTED_MEDIA") == (refused.status_code, refused.json()["error"]["code"])
    assert "application/zip" in refused.json()["error"]["message"]


_FORM = {"content-type": "multipart/form-data; boundary=b"}


def _form(*parts: bytes) -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


def _part(name: str, content: bytes) -> bytes:
    return f'Content-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'.encode() + content


#: (headers, body, status)
_BAD_FORMS: tuple[tuple[dict[str, str], bytes, int], ...] = (
    (_FORM, _form(_part("file", b"")), 400),
    (_FORM, _form(_part("file", b"x" * 100_001)), 413),
    (_FORM, _form(_part("file", b"x" * 1_000_000)), 413),
    (_FORM, _form(_part("other", b"x")), 400),
    (_FORM, _form(_part("other", b"x" * 300_000), _part("file", b"x")), 413),
    (_FORM, _form(*[_part("other", b"x")] * 50), 400),
    (_FORM, _form(_part("file", b"cut off"))[:-8], 400),
    (_FORM, b"", 400),
    (_FORM, b"not a form", 400),
    (_FORM, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", 400),
    (_FORM, b"--b\r\n" + b"X: " + b"x" * 10_000 + b"\r\n\r\n\r\n--b--\r\n", 400),
    (_FORM, b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--b--\r\n', 400),
    ({"content-type": "multipart/form-data"}, _form(_part("file", b"x")), 400),
    ({"content-type": "multipart/form-data; boundary="}, b"x", 400),
    ({"content-type": "application/json"}, b"{}", 400),
    ({}, b"x", 400),
)


async def test_bad_forms_are_refused_and_leave_nothing(rest: httpx.AsyncClient) -> None:
    seen = []
    for headers, body, _ in _BAD_FORMS:
        answer = await rest.post("/v1/files", content=body, headers=headers)
        code = "PAYLOAD_TOO_LARGE" if answer.status_code == 413 else "INVALID_INPUT"
        assert code == answer.json()["error"]["code"]
        seen.append((body[:80], answer.status_code))

    assert [(body[:80], status) for _, body, status in _BAD_FORMS] == seen
    assert [] == (await rest.get("/v1/files")).json()["data"]


async def test_fields_before_and_after_the_file_do_not_matter(rest: httpx.AsyncClient) -> None:
    answer = await rest.post(
        "/v1/files", data={"purpose": "search"}, files={"extra": b"no", "file": ("a", b"the content")}
    )

    assert (201, len(b"the content")) == (answer.status_code, answer.json()["byte_size"])


@given(content=st.binary(min_size=1, max_size=400), size=st.integers(1, 50))
async def test_any_content_survives_any_cut_of_the_body(content: bytes, size: int) -> None:
    body = _form(_part("other", b"1"), _part("file", content), _part("more", b"2"))

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    part = await open_file_part(_FORM["content-type"], chunks(), field="file", max_bytes=1000)

    assert content == b"".join([chunk async for chunk in part.chunks()]) or b"\r\n--b" in content


@given(st.binary(max_size=300), st.integers(1, 20))
async def test_no_body_does_worse_than_being_refused(body: bytes, size: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    async def read() -> None:
        part = await open_file_part(_FORM["content-type"], chunks(), field="file", max_bytes=1000)
        async for _ in part.chunks():
            pass

    with pytest.raises((InvalidInput, PayloadTooLarge)):
        await read()


async def test_a_file_far_over_the_ceiling_is_refused_while_its_sender_still_listens(address: str) -> None:
    async with httpx.AsyncClient(base_url=address) as client:
        answer = await client.post("/v1/files", files={"file": ("a", b"x" * 250_000)})

    assert (413, "PAYLOAD_TOO_LARGE") == (answer.status_code, answer.json()["error"]["code"])


async def test_a_sender_who_hangs_up_in_the_middle_leaves_nothing(
    embedding_app: Litestar, rest: httpx.AsyncClient, tmp_path: Path
) -> None:
    half = _form(_part("file", b"x" * 90_000))[:80_000]
    incoming: list[dict[str, Any]] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": half, "more_body": True},
    ]
    sent: list[Any] = []

    async def receive() -> Any:  # noqa: ANN401 - an ASGI message
        return incoming.pop()

    async def send(message: Any) -> None:  # noqa: ANN401 - an ASGI message
        sent.append(message)

    scope: Any = {
        "type": "http",
        "method": "POST",
        "path": "/v1/files",
        "raw_path": b"/v1/files",
        "query_string": b"",
        "headers": [(b"content-type", _FORM["content-type"].encode())],
    }
    await embedding_app(scope, receive, send)

    assert 499 == sent[0]["status"]
    assert [] == [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    assert [] == (await rest.get("/v1/files")).json()["data"]
