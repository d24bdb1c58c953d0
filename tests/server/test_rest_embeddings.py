"""`/v1/embeddings` and `/v1/models` as OpenAI's clients see them."""

import asyncio
import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from litestar import Litestar
from PIL import Image

from server.auth.principal import Scope
from server.embeddings import Embeddings
from tests.support.embedding import (
    POISON,
    ChangePipelines,
    EmbedWorker,
    MakePrincipal,
    until,
    vector_of,
)
from tests.support.embedding_app import SignedIn


async def _embed(rest: httpx.AsyncClient, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answer = await rest.post("/v1/embeddings", json=body)
    assert (200, "application/json") == (answer.status_code, answer.headers["content-type"]), answer.text
    content: dict[str, Any] = answer.json()
    return content


async def _upload(rest: httpx.AsyncClient, content: bytes) -> str:
    answer = await rest.post("/v1/files", files={"file": ("a", content)})
    assert 201 == answer.status_code, answer.text
    file_id: str = answer.json()["id"]
    return file_id


def _png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 3), color).save(buffer, "PNG")
    return buffer.getvalue()


async def test_a_string_gets_one_row_of_float32_numbers(rest: httpx.AsyncClient) -> None:
    answer = await _embed(rest, input="two words", model="text-a")

    [row] = answer["data"]
    assert ("list", "text-a") == (answer["object"], answer["model"])
    assert ("embedding", 0) == (row["object"], row["index"])
    np.testing.assert_array_equal(vector_of("two words", 8), np.array(row["embedding"], dtype=np.float32))
    assert {"prompt_tokens": 2, "total_tokens": 2} == answer["usage"]
    assert "selection" not in answer


async def test_a_list_gets_rows_in_order_and_auto_says_why(rest: httpx.AsyncClient) -> None:
    answer = await _embed(rest, input=["a", "b", "c"], model="auto")

    assert [0, 1, 2] == [row["index"] for row in answer["data"]]
    assert "text-a" == answer["model"]
    assert "text" in answer["selection"]["reason"]


async def test_base64_is_little_endian_float32(rest: httpx.AsyncClient) -> None:
    answer = await _embed(rest, input=["a", "b"], model="text-a", encoding_format="base64", dimensions=4)

    rows = [np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in answer["data"]]
    start = np.stack([vector_of(text, 8)[:4] for text in "ab"])
    np.testing.assert_allclose(
        start / np.linalg.norm(start, axis=1, keepdims=True), np.stack(rows), rtol=1e-6
    )


async def test_numbers_and_base64_are_the_same_vector(rest: httpx.AsyncClient) -> None:
    numbers = (await _embed(rest, input="x", model="text-a"))["data"][0]["embedding"]
    encoded = (await _embed(rest, input="x", model="text-a", encoding_format="base64"))["data"][0][
        "embedding"
    ]

    np.testing.assert_array_equal(
        np.array(numbers, dtype=np.float32), np.frombuffer(base64.b64decode(encoded), dtype="<f4")
    )


_TEXT = '{"model": "text-a", "input": '


#: (body, status, param); the code follows from the status.
_BAD_BODIES: tuple[tuple[str, int, str | None], ...] = (
    ("", 400, None),
    ("{", 400, None),
    ("\udcff", 400, None),
    ("[" * 100_000, 400, None),
    ("[]", 400, None),
    ("null", 400, None),
    ('"text"', 400, None),
    ("{}", 400, "input"),
    (_TEXT + "null}", 400, "input"),
    (_TEXT + "7}", 400, "input"),
    (_TEXT + "[1, 2, 3]}", 400, "input[0]"),
    (_TEXT + "[[1, 2], [3]]}", 400, "input[0]"),
    (_TEXT + '["a", {}]}', 400, "input[1]"),
    (_TEXT + '["a", true]}', 400, "input[1]"),
    (_TEXT + "[]}", 400, "input"),
    (_TEXT + '""}', 400, "input[0]"),
    (_TEXT + '["a", ""]}', 400, "input[1]"),
    (_TEXT + '["a", "b", "c\\u0000"]}', 400, "input[2]"),
    (_TEXT + '["a", "\\ud83d"]}', 400, "input[1]"),
    (_TEXT + '"\\udc00 x"}', 400, "input"),
    (_TEXT + '["a", "' + "x" * 1_000_000 + '"]}', 413, "input[1]"),
    (_TEXT + '"' + "x" * 2_000_000 + '"}', 413, None),
    (_TEXT + "[" + '"a",' * 9_999 + '"a"]}', 400, "input"),
    (_TEXT + f'["a", "{POISON}", "b"]}}', 400, "input[1]"),
    ('{"input": "a", "model": "nope"}', 404, "model"),
    ('{"input": "a", "model": "image-a"}', 400, "input[0]"),
    ('{"input": "a", "model": 5}', 400, "model"),
    ('{"input": "a", "encoding_format": "hex"}', 400, "encoding_format"),
    ('{"input": "a", "dimensions": "x"}', 400, "dimensions"),
    ('{"input": "a", "dimensions": 0}', 400, "dimensions"),
    ('{"input": "a", "dimensions": 9}', 400, "dimensions"),
    ('{"input": "a", "dimensions": 1e999}', 400, "dimensions"),
)
_CODES = {400: "INVALID_INPUT", 404: "NOT_FOUND", 413: "PAYLOAD_TOO_LARGE"}


async def test_bad_bodies_are_refused_in_openais_shape_with_the_field(rest: httpx.AsyncClient) -> None:
    seen = []
    for body, _, _ in _BAD_BODIES:
        answer = await rest.post(
            "/v1/embeddings",
            content=body.encode("utf-8", "surrogateescape"),
            headers={"content-type": "application/json"},
        )
        error = answer.json()["error"]
        seen.append((body[:80], answer.status_code, error["param"]))
        assert {"message", "type", "param", "code"} == set(error)
        assert _CODES[answer.status_code] == error["code"]
        assert error["message"]

    assert [(body[:80], status, param) for body, status, param in _BAD_BODIES] == seen


async def test_a_refused_request_leaves_its_neighbours_alone(rest: httpx.AsyncClient) -> None:
    bad, good = await asyncio.gather(
        rest.post("/v1/embeddings", json={"input": ["a", POISON], "model": "text-a"}),
        rest.post("/v1/embeddings", json={"input": ["a", "b"], "model": "text-a"}),
    )

    assert (400, 200) == (bad.status_code, good.status_code)


async def test_without_a_worker_it_is_unavailable_with_when_to_come_back(
    rest: httpx.AsyncClient, change_pipelines: ChangePipelines
) -> None:
    await change_pipelines()

    answer = await rest.post("/v1/embeddings", json={"input": "a"})

    assert (503, "PIPELINE_UNAVAILABLE") == (answer.status_code, answer.json()["error"]["code"])
    assert int(answer.headers["retry-after"]) >= 1


async def test_files_are_embedded_by_id_and_kinds_that_differ_are_named(rest: httpx.AsyncClient) -> None:
    ids = [await _upload(rest, _png(color)) for color in ("red", "blue")]
    text = await _upload(rest, b"a text file")

    answer = await rest.post("/v1/embeddings/files", json={"file_ids": ids, "encoding_format": "base64"})
    mixed = await rest.post("/v1/embeddings/files", json={"file_ids": [*ids, text]})

    content = answer.json()
    assert (200, "image-a", "image/png") == (
        answer.status_code,
        content["model"],
        content["selection"]["media_type"],
    )
    assert [6, 6] == [len(base64.b64decode(row["embedding"])) // 4 for row in content["data"]]
    assert (400, "file_ids[2]") == (mixed.status_code, mixed.json()["error"]["param"])


async def test_bad_file_requests_name_the_field(rest: httpx.AsyncClient) -> None:
    expected: list[tuple[dict[str, Any], int, str]] = [
        ({"file_ids": ["not-an-id"]}, 404, "file_ids[0]"),
        ({"file_ids": []}, 400, "file_ids"),
        ({"file_ids": [3]}, 400, "file_ids"),
        ({}, 400, "file_ids"),
        ({"file_ids": ["01a20350-6089-743b-bd72-bafd6478c29d"]}, 404, "file_ids[0]"),
        ({"file_ids": ["x"], "colour": "red"}, 400, "colour"),
    ]
    seen = []
    for body, _, _ in expected:
        answer = await rest.post("/v1/embeddings/files", json=body)
        seen.append((body, answer.status_code, answer.json()["error"]["param"]))

    assert expected == seen


async def test_a_form_is_not_taken_for_json(rest: httpx.AsyncClient) -> None:
    answer = await rest.post("/v1/embeddings", data={"input": "a"})

    assert (415, "UNSUPPORTED_MEDIA") == (answer.status_code, answer.json()["error"]["code"])


async def test_models_are_the_pipelines_that_are_there_and_auto(
    rest: httpx.AsyncClient, change_pipelines: ChangePipelines
) -> None:
    listed = (await rest.get("/v1/models")).json()
    one = (await rest.get("/v1/models/text-a")).json()

    assert ["auto", "image-a", "text-a"] == [model["id"] for model in listed["data"]]
    assert ("model", "towhee", "TEXT", 8) == (
        one["object"],
        one["owned_by"],
        one["modality"],
        one["dimension"],
    )
    assert one["created"] > 1_700_000_000

    await change_pipelines()
    assert ["auto"] == [model["id"] for model in (await rest.get("/v1/models")).json()["data"]]
    assert not (await rest.get("/v1/models/text-a")).json()["available"]


@pytest.mark.parametrize("name", ["nope", "model/mine"])
async def test_an_unknown_model_is_not_found_in_openais_shape(rest: httpx.AsyncClient, name: str) -> None:
    answer = await rest.get(f"/v1/models/{name}")

    assert (404, "NOT_FOUND") == (answer.status_code, answer.json()["error"]["code"])


async def test_a_key_for_reading_lists_models_and_embeds_nothing(
    rest: httpx.AsyncClient, signed_in: SignedIn, make_principal: MakePrincipal
) -> None:
    signed_in.principal = await make_principal(Scope.READ)

    assert 200 == (await rest.get("/v1/models")).status_code
    refused = await rest.post("/v1/embeddings", json={"input": "a"})
    assert (403, "FORBIDDEN") == (refused.status_code, refused.json()["error"]["code"])


async def test_the_bodies_we_read_ourselves_are_described(embedding_app: Litestar) -> None:
    paths = embedding_app.openapi_schema.to_schema()["paths"]

    body = paths["/v1/embeddings"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    form = paths["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"input", "model", "encoding_format", "dimensions", "user"} == set(body["properties"])
    assert ["input"] == body["required"]
    assert ["file"] == list(form["properties"])


async def test_when_the_client_hangs_up_nobody_waits_for_the_answer(
    address: str,
    worker: EmbedWorker,
    embeddings: Embeddings,
) -> None:
    worker.gate.clear()

    async def nobody_waits() -> bool:
        return embeddings._lane.num_pending == 0

    async with httpx.AsyncClient(base_url=address) as client:
        asking = asyncio.create_task(client.post("/v1/embeddings", json={"input": "a", "model": "text-a"}))
        await asyncio.wait_for(worker.took.wait(), 5)
        assert 1 == embeddings._lane.num_pending

        asking.cancel()
        await asyncio.wait({asking})

        await until(nobody_waits)
        worker.gate.set()
        assert 200 == (await client.post("/v1/embeddings", json={"input": "b"})).status_code


async def test_requests_on_one_connection_are_answered_one_after_the_other(address: str) -> None:
    async with httpx.AsyncClient(base_url=address, limits=httpx.Limits(max_connections=1)) as client:
        answers = [await client.post("/v1/embeddings", json={"input": f"t{number}"}) for number in range(5)]

    assert [200] * 5 == [answer.status_code for answer in answers]
