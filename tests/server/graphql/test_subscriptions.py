"""Following a job, and the end of sockets and streams whose credential has ended."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from bus.memory import MemoryBus
from bus.objects import ObjectStore
from server.auth.cookies import cookie_name
from server.database import Database
from server.graphql import ids
from server.services import Services
from tests.server.graphql.test_accounts import LOG_OUT, REVOKE_KEY, VIEWER, create_key
from tests.server.graphql.test_embeddings import CREATE_JOB
from tests.server.graphql.test_nodes import spread
from tests.support.embedding import EmbedWorker
from tests.support.graphql import GraphQLClient, closed_with, hear, say
from tests.support.jobs import HOSTED, Worker, vector_of
from tests.support.processes import until

FOLLOW = f"""
subscription Follow($id: ID!, $after: String) {{
  embeddingJobEvents(jobId: $id, after: $after) {{ {spread("EmbeddingJobEvent")} }}
}}
"""


@pytest.fixture
async def worker(bus: MemoryBus) -> AsyncIterator[EmbedWorker]:
    """One that hosts what the worker of the bulk lane computes."""
    worker = EmbedWorker(bus, [HOSTED])
    yield worker
    await worker.close()


@pytest.fixture
def job_worker(bus: MemoryBus, objects: ObjectStore) -> Worker:
    """A worker of the bulk lane."""
    return Worker(bus, objects)


async def make_job(owner: GraphQLClient) -> str:
    """Make a job of two texts, which are one chunk, and return its id."""
    created = (await owner.data(CREATE_JOB, input={"texts": ["a", "b"]}))["createEmbeddingJob"]
    job_id: str = created["job"]["id"]
    return job_id


async def finish(worker: Worker, job_id: str) -> None:
    """Do the job; its second text can't be embedded."""
    claimed = await worker.claim(ids.decode(job_id, ()).id)
    await worker.report(claimed, 0, failed=[1])


def kinds(events: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Say shortly what happened."""
    return [(event["__typename"], event.get("state", event.get("index"))) for event in events]


async def events_of(socket: Any, operation_id: str) -> AsyncIterator[dict[str, Any]]:  # noqa: ANN401
    """Yield the events of a subscription until it is complete."""
    while (message := await hear(socket))["type"] != "complete":
        assert (message["id"], "errors" in message["payload"]) == (operation_id, False), message
        yield message["payload"]["data"]["embeddingJobEvents"]


EXPECTED = [
    ("JobStateChanged", "QUEUED"),
    ("JobStateChanged", "RUNNING"),
    ("ItemEmbedded", 0),
    ("ItemFailed", 1),
    ("JobStateChanged", "SUCCEEDED"),
]


async def test_a_job_is_followed_from_its_first_event_to_its_last(
    ada: GraphQLClient, job_worker: Worker
) -> None:
    job_id = await make_job(ada)
    async with ada.socket() as socket:
        await say(socket, type="subscribe", id="1", payload={"query": FOLLOW, "variables": {"id": job_id}})
        await finish(job_worker, job_id)

        events = [event async for event in events_of(socket, "1")]

    assert EXPECTED == kinds(events)
    [embedded] = [event for event in events if event["__typename"] == "ItemEmbedded"]
    np.testing.assert_array_equal([vector_of(0)], np.array(embedded["vector"], dtype=np.float32))
    job = (
        await ada.data(
            "query($id: ID!) { node(id: $id) { ... on EmbeddingJob { state resultUrl } } }", id=job_id
        )
    )["node"]
    assert ("SUCCEEDED", f"/v1/jobs/{ids.decode(job_id, ()).id}/result") == (job["state"], job["resultUrl"])


async def test_a_cursor_goes_on_without_a_gap_or_a_repeat(ada: GraphQLClient, job_worker: Worker) -> None:
    job_id = await make_job(ada)
    await finish(job_worker, job_id)

    async with ada.socket() as socket:

        async def follow(after: str | None) -> list[dict[str, Any]]:
            variables = {"id": job_id, "after": after}
            await say(socket, type="subscribe", id="1", payload={"query": FOLLOW, "variables": variables})
            return [event async for event in events_of(socket, "1")]

        everything = await follow(None)
        for number, event in enumerate(everything):
            assert everything[number + 1 :] == await follow(event["cursor"])


async def test_a_job_is_followed_over_server_sent_events_too(ada: GraphQLClient, job_worker: Worker) -> None:
    job_id = await make_job(ada)
    await finish(job_worker, job_id)

    async with stream(ada, FOLLOW, id=job_id) as response:
        assert "text/event-stream" == response.headers["content-type"]
        parts = [part for part in (await response.aread()).decode().split("\r\n\r\n") if part]

    events = [json.loads(part.split("data: ", 1)[1])["data"]["embeddingJobEvents"] for part in parts[:-1]]
    assert EXPECTED == kinds(events)
    assert parts[-1].startswith("event: complete")


async def test_who_accepts_events_and_json_gets_events_for_subscriptions_alone(
    ada: GraphQLClient, job_worker: Worker
) -> None:
    job_id = await make_job(ada)
    await finish(job_worker, job_id)
    json_type = "application/graphql-response+json"
    headers = {"accept": f"{json_type}, application/json, text/event-stream", **ada.headers}
    types = []

    for body in ({"query": VIEWER}, {"query": FOLLOW, "variables": {"id": job_id}}, {"query": "{"}):
        response = await ada.http.post("/graphql", json=body, headers=headers)
        types.append(response.headers["content-type"].partition(";")[0])

    assert [json_type, "text/event-stream", json_type] == types


async def test_a_query_over_events_is_one_event(shell: GraphQLClient) -> None:
    async with stream(shell, "{ viewer { id } }") as response:
        text = (await response.aread()).decode()

    assert 'event: next\r\ndata: {"data":{"viewer":null}}\r\n\r\nevent: complete\r\ndata: \r\n\r\n' == text


def stream(client: GraphQLClient, query: str, **variables: object) -> Any:  # noqa: ANN401, httpx' own
    """Ask for server-sent events."""
    return client.http.stream(
        "POST",
        "/graphql",
        json={"query": query, "variables": variables},
        headers={"accept": "text/event-stream", **client.headers},
    )


async def test_somebody_elses_job_and_a_wrong_cursor_are_errors_and_no_events(
    ada: GraphQLClient, bob: GraphQLClient
) -> None:
    job_id = await make_job(ada)
    unknown = ids.encode("EmbeddingJob", uuid4())
    refused = [
        (bob, {"id": job_id}, {"code": "NOT_FOUND", "path": ["jobId"]}),
        (ada, {"id": unknown}, {"code": "NOT_FOUND", "path": ["jobId"]}),
        (ada, {"id": "nonsense"}, {"code": "INVALID_INPUT", "path": ["jobId"]}),
        (ada, {"id": job_id, "after": "nonsense"}, {"code": "INVALID_INPUT", "path": ["after"]}),
        (ada, {"id": job_id, "after": "\ud800"}, {"code": "INVALID_INPUT", "path": ["after"]}),
    ]

    for client, variables, extensions in refused:
        async with client.socket() as socket:
            await say(socket, type="subscribe", id="1", payload={"query": FOLLOW, "variables": variables})
            message = await hear(socket)
        assert "error" == message["type"], variables
        assert extensions == message["payload"][0]["extensions"]


async def test_who_has_not_signed_in_follows_nothing(anybody: GraphQLClient, ada: GraphQLClient) -> None:
    job_id = await make_job(ada)
    async with anybody.socket() as socket:
        await say(socket, type="subscribe", id="1", payload={"query": FOLLOW, "variables": {"id": job_id}})
        message = await hear(socket)

    assert ("error", "UNAUTHENTICATED") == (message["type"], message["payload"][0]["extensions"]["code"])


async def test_leaving_a_subscription_leaves_nothing_behind(ada: GraphQLClient, services: Services) -> None:
    job_id = await make_job(ada)
    payload = {"query": FOLLOW, "variables": {"id": job_id}}

    async with ada.socket() as socket:
        for number in range(3):
            await say(socket, type="subscribe", id=str(number), payload=payload)
            assert "QUEUED" == (await hear(socket))["payload"]["data"]["embeddingJobEvents"]["state"]
        for number in range(2):
            await say(socket, type="complete", id=str(number))
    async with stream(ada, FOLLOW, id=job_id) as response:
        async for line in response.aiter_lines():
            assert line == "event: next"
            break

    await until(lambda: services.job_history.is_idle)


async def test_a_socket_has_room_for_a_few_operations_at_a_time(ada: GraphQLClient) -> None:
    payload = {"query": FOLLOW, "variables": {"id": await make_job(ada)}}

    async with ada.socket() as socket:
        for number in range(6):
            await say(socket, type="subscribe", id=str(number), payload=payload)
        messages = [await hear(socket) for _ in range(6)]
        [refused] = [message for message in messages if message["type"] == "error"]
        assert ("5", "QUERY_LIMIT") == (refused["id"], refused["payload"][0]["extensions"]["code"])

        await say(socket, type="complete", id="0")
        await say(socket, type="subscribe", id="5", payload=payload)
        message = await hear(socket)
        assert ("next", "5") == (message["type"], message["id"])


async def test_an_id_that_is_in_use_closes_the_socket(ada: GraphQLClient) -> None:
    payload = {"query": FOLLOW, "variables": {"id": await make_job(ada)}}

    async with ada.socket() as socket:
        for _ in range(2):
            await say(socket, type="subscribe", id="1", payload=payload)

        assert (4409, "Subscriber for 1 already exists") == await closed_with(socket)


async def test_a_revoked_key_closes_its_sockets_and_no_others(ada: GraphQLClient) -> None:
    key_id, key = await create_key(ada, "READ")
    payload = {"query": FOLLOW, "variables": {"id": await make_job(ada)}}

    async with key.socket() as revoked, ada.socket() as kept:
        await say(revoked, type="subscribe", id="1", payload=payload)
        await hear(revoked)

        await ada.data(REVOKE_KEY, id=key_id)

        assert 4403 == (await closed_with(revoked))[0]
        await say(kept, type="subscribe", id="1", payload={"query": VIEWER})
        assert "next" == (await hear(kept))["type"]

    async with key.raw_socket() as again:
        await say(again, type="connection_init", payload={"authorization": f"Bearer {key.token}"})
        assert (4403, "Forbidden") == await closed_with(again)


async def test_no_socket_outlives_a_key_that_is_revoked_while_it_opens(ada: GraphQLClient) -> None:
    key_id, key = await create_key(ada, "READ")
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {key.token}"}}

    async def open_one() -> int:
        async with key.raw_socket() as socket:
            await say(socket, **init)
            return (await closed_with(socket))[0]

    opening = [asyncio.create_task(open_one()) for _ in range(12)]
    await ada.data(REVOKE_KEY, id=key_id)

    assert [4403] * 12 == await asyncio.gather(*opening)


async def test_logging_out_closes_the_sessions_sockets_and_streams(ada: GraphQLClient) -> None:
    job_id = await make_job(ada)

    async with ada.socket() as socket, stream(ada, FOLLOW, id=job_id) as response:
        lines = response.aiter_lines()
        assert "event: next" == await anext(lines)

        await ada.data(LOG_OUT)

        assert (4403, "session ended") == await closed_with(socket)
        async with asyncio.timeout(10):
            rest = [line async for line in lines]
        assert "event: complete" in rest


async def test_a_socket_of_our_own_page_is_signed_in_by_the_cookie(ada: GraphQLClient) -> None:
    cookie = {"cookie": f"{cookie_name(secure=False)}={ada.token}"}
    answers = []

    for origin in (ada.url, None):
        nobody = ada.acting_as(None)
        async with nobody.socket(origin=origin, additional_headers=cookie) as socket:
            await say(socket, type="subscribe", id="1", payload={"query": VIEWER})
            answers.append((await hear(socket))["payload"]["data"]["viewer"])

    assert [{"email": "ada@example.com"}, None] == answers


async def test_who_has_enough_sockets_and_streams_is_asked_to_come_again(
    ada: GraphQLClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await make_job(ada)
    monkeypatch.setattr(services.sockets, "_max_of_user", 1)
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {ada.token}"}}
    said = "You have 1 open sockets and event streams: close some first."

    async with ada.socket(), ada.raw_socket() as second:
        await say(second, **init)
        assert (1013, f"RATE_LIMITED: {said}") == await closed_with(second)
        async with stream(ada, FOLLOW, id=job_id) as response:
            text = (await response.aread()).decode()
    assert "RATE_LIMITED" in text
    assert "embeddingJobEvents" not in text

    await until(lambda: not services.sockets._open)
    async with ada.socket():
        pass


async def test_a_socket_whose_credential_nobody_can_look_up_is_asked_to_come_again(
    ada: GraphQLClient, database: Database
) -> None:
    """The credential may be good: only who knows that it is not may say so."""
    await database.close()

    async with ada.raw_socket() as socket:
        await say(socket, type="connection_init", payload={"authorization": f"Bearer {ada.token}"})

        assert (1013, "Try again later") == await closed_with(socket)
