"""Files in multipart requests, odd ones among them."""

import json
from collections.abc import Sequence

import httpx

from tests.support.graphql import UPLOAD, GraphQLClient

BOUNDARY = "edge"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", "x-requested-with": "test"}
OPERATIONS = json.dumps({"query": UPLOAD, "variables": {"file": None}})
MAP = json.dumps({"0": ["variables.file"]})
FILE = ("0", "a.txt", b"content")


def form(fields: Sequence[tuple[str, str]], files: Sequence[tuple[str, str, bytes]] = (FILE,)) -> bytes:
    """Write a form by hand, so that it can be odd."""
    parts = [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields
    ]
    parts += [
        f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'.encode() + content
        for name, filename, content in files
    ]
    edge = f"--{BOUNDARY}".encode()
    return b"".join(edge + b"\r\n" + part + b"\r\n" for part in parts) + edge + b"--\r\n"


async def refused(client: GraphQLClient, body: bytes, headers: dict[str, str] = FORM) -> tuple[int, str]:
    """Send a form that can't be an operation and return its status and code."""
    response = await client.http.post("/graphql", content=body, headers=headers)
    assert "data" not in response.json()
    return response.status_code, response.json()["errors"][0]["extensions"]["code"]


async def test_a_form_of_another_sites_page_is_refused(shell: GraphQLClient) -> None:
    """It can send any form and the cookie, but no header of its own."""
    body = form([("operations", OPERATIONS), ("map", MAP)])

    answer = await refused(
        shell, body, {"content-type": FORM["content-type"], "cookie": "towhee_session=stolen"}
    )

    assert (403, "FORBIDDEN") == answer


async def test_odd_forms_are_malformed_requests(shell: GraphQLClient) -> None:
    good = json.loads(OPERATIONS)
    nested = json.dumps({**good, "variables": {"input": {"files": [None]}}})
    odd = [
        [],
        [("operations", OPERATIONS)],
        [("map", MAP)],
        [("operations", "{"), ("map", MAP)],
        [("operations", "1"), ("map", MAP)],
        [("operations", "null"), ("map", MAP)],
        [("operations", f"[{OPERATIONS}]"), ("map", MAP)],
        [("operations", OPERATIONS), ("operations", OPERATIONS), ("map", MAP)],
        [("operations", OPERATIONS), ("map", "{")],
        [("operations", OPERATIONS), ("map", "[]")],
        [("operations", OPERATIONS), ("map", "null")],
        [("operations", OPERATIONS), ("map", '{"1": ["variables.file"]}')],
        [("operations", OPERATIONS), ("map", '{"0": "variables.file"}')],
        [("operations", OPERATIONS), ("map", '{"0": []}')],
        [("operations", OPERATIONS), ("map", '{"0": [5]}')],
        [("operations", OPERATIONS), ("map", '{"0": ["variables.file", "variables.file"]}')],
        [("operations", OPERATIONS), ("map", '{"0": ["query"]}')],
        [("operations", OPERATIONS), ("map", '{"0": [""]}')],
        [("operations", OPERATIONS), ("map", '{"0": ["variables"]}')],
        [("operations", OPERATIONS), ("map", '{"0": ["variables.other"]}')],
        [("operations", OPERATIONS), ("map", '{"0": ["variables.file.more"]}')],
        [("operations", OPERATIONS), ("map", '{"0": ["variables.__class__"]}')],
        [("operations", nested), ("map", '{"0": ["variables.input.files.1"]}')],
        [("operations", nested), ("map", '{"0": ["variables.input.files.x"]}')],
        [("operations", OPERATIONS), ("map", MAP), ("0", "a text and no file")],
        [("operations", OPERATIONS), ("map", json.dumps({str(n): ["variables.file"] for n in range(11)}))],
        [("operations", "[" * 100_000), ("map", MAP)],
    ]

    for fields in odd:
        assert (400, "INVALID_INPUT") == await refused(shell, form(fields)), fields
    files = [FILE, FILE]
    assert (400, "INVALID_INPUT") == await refused(
        shell, form([("operations", OPERATIONS), ("map", MAP)], files)
    )


async def test_broken_and_outsized_forms_are_refused(shell: GraphQLClient) -> None:
    whole = form([("operations", OPERATIONS), ("map", MAP)])
    many = form([(f"f{number}", "x") for number in range(2000)])
    no_edge = {**FORM, "content-type": "multipart/form-data"}

    assert (400, "INVALID_INPUT") == await refused(shell, whole[:60])
    assert (400, "INVALID_INPUT") == await refused(shell, b"no form at all")
    assert (400, "INVALID_INPUT") == await refused(shell, whole, no_edge)
    assert (400, "INVALID_INPUT") == await refused(shell, many)
    assert (413, "PAYLOAD_TOO_LARGE") == await refused(shell, b"a" * 3_000_000)
    assert (413, "PAYLOAD_TOO_LARGE") == await refused(
        shell, form([("operations", OPERATIONS), ("map", '"' + "a" * 20_000 + '"')])
    )


async def test_a_file_can_not_be_sent_as_json(shell: GraphQLClient) -> None:
    for value in ("a text", None, 5, {"filename": "a"}):
        extensions = await shell.refusal(UPLOAD, file=value)
        assert {"code": "INVALID_INPUT", "path": ["file"]} == extensions


async def test_a_browsers_upload_needs_the_cookie_and_a_header(ada: GraphQLClient) -> None:
    body = form([("operations", OPERATIONS), ("map", MAP)])
    cookie = {"towhee_session": ada.token or ""}

    async with httpx.AsyncClient(base_url=ada.url, cookies=cookie) as browser:
        answer = (await browser.post("/graphql", content=body, headers=FORM)).json()

    assert "a.txt" == answer["data"]["uploadFile"]["file"]["name"]
