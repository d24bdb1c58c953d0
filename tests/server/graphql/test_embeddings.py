"""Pipelines, files, `embed` and jobs."""

import asyncio
import base64
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from server.graphql import ids
from server.services import Services
from tests.server.graphql.test_accounts import create_key
from tests.support.embedding import POISON, TEXT_PIPELINE, EmbedWorker, vector_of
from tests.support.graphql import GraphQLClient
from tests.support.processes import until

EMBED = """
mutation Embed($input: EmbedInput!) {
  embed(input: $input) {
    __typename
    ... on EmbedPayload {
      embeddings {
        pipeline { name } selection { pipeline { name } mediaType modality confidence reason }
        dimension vectors base64 cached truncated failures { index code message }
        usage { requests items tokens bytes computeSeconds }
      }
    }
    ... on Error { code message path }
  }
}
"""
CREATE_JOB = """
mutation Create($input: CreateEmbeddingJobInput!) {
  createEmbeddingJob(input: $input) {
    __typename
    ... on EmbeddingJobPayload { job { id state itemCount pipeline { name } resultUrl } }
    ... on Error { code message path }
  }
}
"""


async def embed(client: GraphQLClient, **given: object) -> dict[str, Any]:
    """Embed and return the mutation's result."""
    result: dict[str, Any] = (await client.data(EMBED, input=given))["embed"]
    return result


async def test_texts_become_rows_in_their_order(ada: GraphQLClient) -> None:
    batch = (await embed(ada, texts=["a", "b", "a"]))["embeddings"]

    expected = np.stack([vector_of(text, TEXT_PIPELINE.dimension) for text in ("a", "b", "a")])
    np.testing.assert_array_equal(expected, np.array(batch["vectors"], dtype=np.float32))
    assert batch["base64"] is None
    assert (TEXT_PIPELINE.name, TEXT_PIPELINE.dimension) == (batch["pipeline"]["name"], batch["dimension"])
    assert TEXT_PIPELINE.name == batch["selection"]["pipeline"]["name"]
    assert ("TEXT", []) == (batch["selection"]["modality"], batch["failures"])
    assert ([False] * 3, 3) == (batch["truncated"], batch["usage"]["items"])


async def test_base64_is_the_same_rows_as_bytes(ada: GraphQLClient) -> None:
    batch = (await embed(ada, texts=["a", "b"], encoding="BASE64", pipeline=TEXT_PIPELINE.name))["embeddings"]

    rows = [np.frombuffer(base64.b64decode(row), dtype="<f4") for row in batch["base64"]]
    np.testing.assert_array_equal([vector_of(text, TEXT_PIPELINE.dimension) for text in ("a", "b")], rows)
    assert batch["vectors"] is None
    assert batch["selection"] is None


@pytest.mark.parametrize("encoding", ["FLOAT", "BASE64"])
async def test_a_failed_item_is_null_in_every_list(ada: GraphQLClient, encoding: str) -> None:
    batch = (await embed(ada, texts=["a", POISON, "b"], encoding=encoding))["embeddings"]

    rows = batch["vectors"] or batch["base64"]
    for listed in (rows, batch["cached"], batch["truncated"]):
        assert [False, True, False] == [item is None for item in listed]
    assert [(1, "INVALID_INPUT")] == [(failure["index"], failure["code"]) for failure in batch["failures"]]


async def test_null_means_the_default(ada: GraphQLClient) -> None:
    batch = (await embed(ada, texts=["a"], fileIds=None, pipeline=None, encoding=None, dimensions=None))[
        "embeddings"
    ]

    assert 1 == len(batch["vectors"])


async def test_what_embed_refuses_is_data_with_the_path_of_the_field(ada: GraphQLClient) -> None:
    unknown = ids.encode("File", uuid4())
    refused: list[tuple[dict[str, Any], str, list[str] | None]] = [
        ({"texts": [""]}, "INVALID_INPUT", ["input", "texts", "0"]),
        ({"texts": ["a", "\ud800"]}, "INVALID_INPUT", ["input", "texts", "1"]),
        ({"texts": ["a", "a" * 100_000]}, "PAYLOAD_TOO_LARGE", ["input", "texts", "1"]),
        ({"texts": ["a"] * 201}, "INVALID_INPUT", ["input", "texts"]),
        ({"texts": []}, "INVALID_INPUT", ["input", "texts"]),
        ({}, "INVALID_INPUT", ["input", "texts"]),
        ({"texts": ["a"], "fileIds": [unknown]}, "INVALID_INPUT", ["input", "texts"]),
        ({"texts": ["a"], "pipeline": "nothing"}, "NOT_FOUND", ["input", "pipeline"]),
        ({"texts": ["a"], "pipeline": "a\0"}, "NOT_FOUND", ["input", "pipeline"]),
        ({"texts": ["a"], "pipeline": "\ud800"}, "NOT_FOUND", ["input", "pipeline"]),
        ({"texts": ["a"], "dimensions": 0}, "INVALID_INPUT", ["input", "dimensions"]),
        ({"fileIds": ["nonsense"]}, "INVALID_INPUT", ["input", "fileIds", "0"]),
        ({"fileIds": [unknown]}, "NOT_FOUND", ["input", "fileIds", "0"]),
        ({"fileIds": [ids.encode("ApiKey", uuid4())]}, "INVALID_INPUT", ["input", "fileIds", "0"]),
    ]

    for given, code, path in refused:
        result = await embed(ada, **given)
        assert (code, path) == (result.get("code"), result.get("path")), given


async def test_what_was_asked_by_somebody_who_left_is_not_waited_for(
    ada: GraphQLClient, services: Services, worker: EmbedWorker
) -> None:
    worker.gate.clear()
    asking = asyncio.create_task(embed(ada, texts=["a"]))
    await worker.took.wait()

    asking.cancel()

    await until(lambda: services.embeddings._lane.num_pending == 0, within_s=5)


async def test_a_file_is_known_by_its_content_and_embedded(ada: GraphQLClient, worker: EmbedWorker) -> None:
    uploaded = (await ada.upload("notes.png", b"A text that is called a picture."))["file"]
    file_id = uploaded["id"]

    selection = await ada.data(
        "query($id: ID!) { selectPipeline(fileId: $id) { pipeline { name } mediaType modality reason } }",
        id=file_id,
    )
    batch = (await embed(ada, fileIds=[file_id]))["embeddings"]

    assert ("notes.png", "text/plain", "TEXT", 32) == tuple(
        uploaded[name] for name in ("name", "mediaType", "modality", "byteSize")
    )
    assert uploaded["url"].startswith("/v1/files/")
    assert uploaded["url"].endswith("/content")
    assert TEXT_PIPELINE.name == selection["selectPipeline"]["pipeline"]["name"]
    assert "TEXT" == selection["selectPipeline"]["modality"]
    assert 1 == len(batch["vectors"])


async def test_what_upload_refuses_is_data(ada: GraphQLClient) -> None:
    empty = await ada.upload("empty.txt", b"")
    large = await ada.upload("large.bin", b"a" * 100_001)

    assert ("InvalidInput", ["input", "file"]) == (empty["__typename"], empty["path"])
    assert ("PayloadTooLarge", ["input", "file"]) == (large["__typename"], large["path"])


async def test_somebody_elses_file_is_not_there(ada: GraphQLClient, bob: GraphQLClient) -> None:
    file_id = (await ada.upload("a.txt", b"Mine alone."))["file"]["id"]

    result = await embed(bob, fileIds=[file_id])
    refused = await bob.refusal("query($id: ID!) { selectPipeline(fileId: $id) { reason } }", id=file_id)

    assert ("NOT_FOUND", ["input", "fileIds", "0"]) == (result["code"], result["path"])
    assert {"code": "NOT_FOUND", "path": ["fileId"]} == refused


async def test_an_unknown_pipeline_is_not_found_and_its_data_null(ada: GraphQLClient) -> None:
    answer = await ada.send('{ pipeline(name: "nothing") { id } }')
    found = await ada.data(
        "query($name: String!) { pipeline(name: $name) { name } }", name=TEXT_PIPELINE.name
    )

    assert {"pipeline": None} == answer["data"]
    assert {"code": "NOT_FOUND", "path": ["name"]} == answer["errors"][0]["extensions"]
    assert {"pipeline": {"name": TEXT_PIPELINE.name}} == found


async def test_pipelines_are_listed_by_modality(ada: GraphQLClient) -> None:
    query = (
        "query($m: Modality) { pipelines(modality: $m, first: 10) { edges { node { modality available } } } }"
    )

    texts = (await ada.data(query, m="TEXT"))["pipelines"]["edges"]
    everything = (await ada.data(query))["pipelines"]["edges"]

    assert [{"node": {"modality": "TEXT", "available": True}}] == texts
    assert 2 == len(everything)


async def test_a_key_without_embed_embeds_nothing(ada: GraphQLClient) -> None:
    _, key = await create_key(ada, "READ", "TRAIN")

    assert "FORBIDDEN" == (await embed(key, texts=["a"]))["code"]
    assert "FORBIDDEN" == (await key.data(CREATE_JOB, input={"texts": ["a"]}))["createEmbeddingJob"]["code"]


CANCEL_JOB = """
mutation Cancel($id: ID!) {
  cancelEmbeddingJob(input: {jobId: $id}) {
    __typename
    ... on EmbeddingJobPayload { job { id state finishedAt } }
    ... on Error { code message path }
  }
}
"""


async def test_a_job_is_cancelled_by_its_owner_once(ada: GraphQLClient, bob: GraphQLClient) -> None:
    job = (await ada.data(CREATE_JOB, input={"texts": ["a"]}))["createEmbeddingJob"]["job"]

    async def cancel(client: GraphQLClient, job_id: str) -> dict[str, Any]:
        result: dict[str, Any] = (await client.data(CANCEL_JOB, id=job_id))["cancelEmbeddingJob"]
        return result

    stranger, first, second = [await cancel(client, job["id"]) for client in (bob, ada, ada)]

    assert ("NotFound", ["input", "jobId"]) == (stranger["__typename"], stranger["path"])
    assert (job["id"], "CANCELLED") == (first["job"]["id"], first["job"]["state"])
    assert ("JobFinished", "JOB_FINISHED") == (second["__typename"], second["code"])
    assert "INVALID_INPUT" == (await cancel(ada, "nonsense"))["code"]


async def test_usage_adds_up(ada: GraphQLClient, services: Services) -> None:
    await embed(ada, texts=["a", "b"])
    await services.usage.flush()

    usage = (await ada.data('{ viewer { usage(since: "2020-01-01T00:00:00Z") { requests items } } }'))[
        "viewer"
    ]

    assert {"requests": 1, "items": 2} == usage["usage"]


async def test_a_moment_without_its_zone_is_refused(ada: GraphQLClient) -> None:
    for since in ("2020-01-01T00:00:00", "yesterday", 5, "9999-12-31T23:59:59-23:59"):
        refused = await ada.refusal("query($t: DateTime) { viewer { usage(since: $t) { items } } }", t=since)
        assert {"code": "INVALID_INPUT", "path": ["t"]} == refused
