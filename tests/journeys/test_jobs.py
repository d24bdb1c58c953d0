"""Jobs watched over a real graphql-transport-ws socket, through crashes and on two servers."""

import asyncio
import os
import signal
from io import BytesIO
from typing import Any

import numpy as np

from tests.support.api import ApiClient
from tests.support.script import Script
from tests.support.servers import second_server
from tests.support.stack import RunningStack, eventually

NUM_TEXTS = 500

CREATE = """
    mutation($texts: [String!]) {
      createEmbeddingJob(input: {texts: $texts}) {
        ... on EmbeddingJobPayload { job { id state itemCount } }
        ... on Error { code message path }
      }
    }"""
WATCH = """
    subscription($job: ID!, $after: String) {
      embeddingJobEvents(jobId: $job, after: $after) {
        __typename
        ... on JobEvent { cursor attempt }
        ... on JobStateChanged { state reason }
        ... on ItemEmbedded { index vector }
        ... on ItemFailed { index code message }
      }
    }"""
JOB = """
    query($id: ID!) {
      node(id: $id) { ... on EmbeddingJob { state completedCount failedCount resultUrl } }
    }"""

Event = dict[str, Any]


def _texts(tag: str) -> list[str]:
    return [f"{tag}: text number {number}" for number in range(NUM_TEXTS)]


async def _create(user: ApiClient, tag: str) -> str:
    answer = await user.graphql(CREATE, texts=_texts(tag))
    job_id: str = answer["createEmbeddingJob"]["job"]["id"]
    return job_id


async def _watch(
    user: ApiClient, job_id: str, *, after: str | None = None, stop_after: int | None = None
) -> list[Event]:
    """Read events to the end, or leave after so many."""
    events: list[Event] = []
    async with asyncio.timeout(120), user.subscribe(WATCH, job=job_id, after=after) as stream:
        async for data in stream:
            events.append(data["embeddingJobEvents"])
            if len(events) == stop_after:
                break
    return events


def _indices(events: list[Event]) -> list[int]:
    return sorted(event["index"] for event in events if event["__typename"] == "ItemEmbedded")


def _states(events: list[Event]) -> list[str]:
    return [event["state"] for event in events if event["__typename"] == "JobStateChanged"]


async def _started(user: ApiClient, job_id: str) -> None:
    """Wait until the first vector of a job has come."""
    async with asyncio.timeout(60), user.subscribe(WATCH, job=job_id) as stream:
        async for data in stream:
            if data["embeddingJobEvents"]["__typename"] == "ItemEmbedded":
                return


async def test_each_vector_arrives_once_for_watchers_before_during_and_after(user: ApiClient) -> None:
    job_id = await _create(user, "watched")
    before = asyncio.create_task(_watch(user, job_id))
    await _started(user, job_id)
    during = asyncio.create_task(_watch(user, job_id))
    watched = [await before, await during, await _watch(user, job_id)]

    for events in watched:
        assert list(range(NUM_TEXTS)) == _indices(events)
        assert ["QUEUED", "RUNNING", "SUCCEEDED"] == _states(events)
    assert watched[0] == watched[1] == watched[2]


async def test_a_client_that_leaves_goes_on_at_another_server_without_gap_or_repeat(
    towhee_api: Script, stack: RunningStack, user: ApiClient
) -> None:
    async with second_server(towhee_api, stack) as other_url:
        job_id = await _create(user, "two servers")
        other = user.at(other_url)
        seen = await _watch(user, job_id, stop_after=40)
        for turn, stop_after in enumerate((1, 100, 77, None)):
            client = (other, user)[turn % 2]
            seen += await _watch(client, job_id, after=seen[-1]["cursor"], stop_after=stop_after)
        await other.close()

    assert list(range(NUM_TEXTS)) == _indices(seen)
    assert len(seen) == len({event["cursor"] for event in seen})
    assert "SUCCEEDED" == _states(seen)[-1]


async def test_a_job_outlives_its_worker(stack: RunningStack, user: ApiClient) -> None:
    job_id = await _create(user, "killed")
    await _started(user, job_id)

    killed = stack.kill("work embed")
    events = await _watch(user, job_id)

    assert list(range(NUM_TEXTS)) == _indices(events)
    assert "SUCCEEDED" == _states(events)[-1]
    job = (await user.graphql(JOB, id=job_id))["node"]
    assert ("SUCCEEDED", NUM_TEXTS, 0) == (job["state"], job["completedCount"], job["failedCount"])
    assert not set(killed) & set(stack.find("work embed"))


async def test_a_call_in_flight_outlives_its_worker(stack: RunningStack, user: ApiClient) -> None:
    # It may just have been started again.
    [worker] = eventually(lambda: stack.find("work embed"))
    # Frozen, it holds what it has pulled and answers nothing until it is gone.
    os.kill(worker, signal.SIGSTOP)
    call = asyncio.create_task(
        user.http.post("/v1/embeddings", json={"model": "auto", "input": "answer me all the same"})
    )
    done, _ = await asyncio.wait({call}, timeout=0.5)
    assert not done

    os.kill(worker, signal.SIGKILL)
    answer = await asyncio.wait_for(call, timeout=60)

    assert 200 == answer.status_code, answer.text
    assert 384 == len(answer.json()["data"][0]["embedding"])


async def test_the_result_is_one_numpy_file(user: ApiClient) -> None:
    job_id = await _create(user, "result")
    events = await _watch(user, job_id)
    job = (await user.graphql(JOB, id=job_id))["node"]

    answer = await user.http.get(job["resultUrl"])
    vectors = np.lib.format.read_array(BytesIO(answer.content), allow_pickle=False)

    assert (NUM_TEXTS, 384) == vectors.shape
    for event in events:
        if event["__typename"] == "ItemEmbedded":
            np.testing.assert_array_equal(
                vectors[event["index"]], np.array(event["vector"][0], dtype=np.float32)
            )
