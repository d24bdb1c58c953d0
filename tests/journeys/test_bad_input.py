"""What can't be used gets its code and the field's path, on every face, and harms nobody else."""

import asyncio
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import ApiClient
from tests.support.stack import RunningStack

EMBED = """
    mutation($input: EmbedInput!) {
      embed(input: $input) {
        ... on EmbedPayload { embeddings { vectors failures { index code message } } }
        ... on Error { code message path }
      }
    }"""

MEGABYTE_TEXT = "word " * 200_000


async def _embed(user: ApiClient, **fields: object) -> dict[str, Any]:
    answer: dict[str, Any] = (await user.graphql(EMBED, input=fields))["embed"]
    return answer


def _png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header promises more pixels than anybody has memory for."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


TEXTS = [
    ([""], "INVALID_INPUT", ["input", "texts", "0"]),
    (["fine", "nul \0 inside"], "INVALID_INPUT", ["input", "texts", "1"]),
    (["fine", "fine", MEGABYTE_TEXT], "PAYLOAD_TOO_LARGE", ["input", "texts", "2"]),
    (["x"] * 10_000, "INVALID_INPUT", ["input", "texts"]),
    ([], "INVALID_INPUT", ["input", "texts"]),
]


@pytest.mark.parametrize(("texts", "code", "path"), TEXTS, ids=["empty", "nul", "long", "many", "none"])
async def test_a_bad_text_is_named_over_graphql(
    user: ApiClient, texts: list[str], code: str, path: list[str]
) -> None:
    answer = await _embed(user, texts=texts)

    assert (code, path) == (answer["code"], answer["path"])
    assert answer["message"]


@pytest.mark.parametrize(
    ("texts", "status", "param"),
    [
        ([""], 400, "input[0]"),
        (["fine", "nul \0 inside"], 400, "input[1]"),
        (["fine", "fine", MEGABYTE_TEXT], 413, "input[2]"),
        (["x"] * 10_000, 400, "input"),
        ([], 400, "input"),
    ],
    ids=["empty", "nul", "long", "many", "none"],
)
async def test_a_bad_text_is_named_in_openais_shape(
    user: ApiClient, texts: list[str], status: int, param: str
) -> None:
    answer = await user.http.post("/v1/embeddings", json={"model": "auto", "input": texts})
    error = answer.json()["error"]

    assert (status, param) == (answer.status_code, error["param"])
    assert {"message", "type", "param", "code"} == error.keys()


@pytest.mark.parametrize(
    ("address", "body"),
    [
        ("/v1/embeddings", '{"model": "auto", "input": ["fine", "lone \\ud800 surrogate"]}'),
        ("/graphql", '{"query": "{ pipeline(name: $n) { id } }", "variables": {"n": "\\udfff"}}'),
        ("/v1/embeddings", "[1]"),
        ("/v1/embeddings", "null"),
        ("/v1/embeddings", "{"),
        ("/v1/sessions", "[]"),
        ("/v1/jobs", '"text"'),
        ("/graphql", "1"),
        ("/graphql", "[1]"),
        ("/graphql", "[" * 100_000),
        ("/graphql", "{"),
    ],
)
async def test_a_body_that_is_no_request_is_refused_as_such(user: ApiClient, address: str, body: str) -> None:
    answer = await user.http.post(address, content=body, headers={"content-type": "application/json"})

    assert 400 == answer.status_code, answer.text
    assert "Traceback" not in answer.text
    codes = answer.json()
    assert "INVALID_INPUT" in answer.text or "invalid_request_error" in answer.text, codes


async def test_an_unknown_pipeline_is_not_found(user: ApiClient) -> None:
    answer = await _embed(user, texts=["fine"], pipeline="no-such-pipeline")
    rest = await user.http.post("/v1/embeddings", json={"model": "no-such-pipeline", "input": "fine"})

    assert ("NOT_FOUND", ["input", "pipeline"]) == (answer["code"], answer["path"])
    assert (404, "model") == (rest.status_code, rest.json()["error"]["param"])


async def test_somebody_elses_file_does_not_exist(
    stack: RunningStack, user: ApiClient, photos: dict[str, Path]
) -> None:
    stranger = await ApiClient.sign_up(stack.url)
    file_id = await user.upload("lion.jpg", photos["lion"].read_bytes())

    answer = await _embed(stranger, fileIds=[file_id])
    node = await stranger.graphql("query($id: ID!) { node(id: $id) { id } }", id=file_id)
    await stranger.close()

    assert ("NOT_FOUND", ["input", "fileIds", "0"]) == (answer["code"], answer["path"])
    assert {"node": None} == node


@pytest.mark.parametrize("secret", [b"nonsense", b"twh_k_" + b"0" * 33, b"Bearer twice", b"\xc3\xa4\xff"])
async def test_a_malformed_credential_is_refused(stack: RunningStack, user: ApiClient, secret: bytes) -> None:
    headers = {b"authorization": b"Bearer " + secret}
    rest = await user.http.post("/v1/embeddings", json={"model": "auto", "input": "x"}, headers=headers)
    graphql = await user.http.post(
        "/graphql", json={"query": EMBED, "variables": {"input": {"texts": ["x"]}}}, headers=headers
    )

    assert 401 == rest.status_code
    assert "UNAUTHENTICATED" == graphql.json()["errors"][0]["extensions"]["code"]


BROKEN_FILES: dict[str, Callable[[bytes], bytes]] = {
    "truncated.jpg": lambda photo: photo[: len(photo) // 2],
    "bomb.png": lambda _: _png_claiming(60_000, 60_000),
    "header-only.gif": lambda _: b"GIF89a\x10\x00\x10\x00\x00\x00\x00;",
}


@pytest.mark.parametrize("name", BROKEN_FILES)
async def test_a_broken_picture_fails_alone_and_says_why(
    user: ApiClient, photos: dict[str, Path], name: str
) -> None:
    photo = photos["lion"].read_bytes()
    good = await user.upload("lion.jpg", photo)
    bad = await user.upload(name, BROKEN_FILES[name](photo))

    embeddings = (await _embed(user, fileIds=[good, bad, good]))["embeddings"]

    assert [True, False, True] == [row is not None for row in embeddings["vectors"]]
    [failure] = embeddings["failures"]
    assert 1 == failure["index"]
    assert failure["code"] in {"INVALID_INPUT", "PAYLOAD_TOO_LARGE"}
    assert failure["message"]


async def test_an_empty_file_is_refused(user: ApiClient) -> None:
    answer = await user.http.post("/v1/files", files={"file": ("empty.txt", b"")})

    assert (400, "INVALID_INPUT") == (answer.status_code, answer.json()["error"]["code"])


async def test_a_text_called_png_is_a_text(user: ApiClient) -> None:
    file_id = await user.upload("picture.png", b"This is a sentence and no picture, whatever it is called.")
    query = """query($id: ID!) { selectPipeline(fileId: $id) { modality mediaType pipeline { name } } }"""

    selection = (await user.graphql(query, id=file_id))["selectPipeline"]

    assert ("TEXT", "text-embedding-minilm") == (selection["modality"], selection["pipeline"]["name"])


async def test_what_is_not_served_yet_is_refused_by_its_name(user: ApiClient) -> None:
    file_id = await user.upload("report", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n")

    answer = await _embed(user, fileIds=[file_id])

    assert ("UNSUPPORTED_MEDIA", ["input", "fileIds", "0"]) == (answer["code"], answer["path"])
    assert "PDF" in answer["message"]


async def test_files_of_two_kinds_are_refused_at_the_first_that_differs(
    user: ApiClient, photos: dict[str, Path]
) -> None:
    photo = await user.upload("lion.jpg", photos["lion"].read_bytes())
    text = await user.upload("note.txt", b"Just a short note, in plain English words.")

    answer = await _embed(user, fileIds=[photo, photo, text])

    assert ("INVALID_INPUT", ["input", "fileIds", "2"]) == (answer["code"], answer["path"])


async def test_bad_requests_leave_their_neighbours_alone(user: ApiClient) -> None:
    async def good(number: int) -> int:
        body = {"model": "auto", "input": f"good neighbour {number}"}
        return (await user.http.post("/v1/embeddings", json=body)).status_code

    async def bad(number: int) -> int:
        body = {"model": "auto", "input": ["fine", ("", "\0", MEGABYTE_TEXT)[number % 3]]}
        return (await user.http.post("/v1/embeddings", json=body)).status_code

    statuses = await asyncio.gather(*(call(number) for number in range(20) for call in (good, bad)))

    assert [200] * 20 == statuses[::2]
    assert {400, 413} == set(statuses[1::2])
