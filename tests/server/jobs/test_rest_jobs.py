"""Jobs over REST."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from io import BytesIO
from typing import Any

import asyncpg
import httpx
import msgspec
import numpy as np
import pytest
from litestar import Litestar, Request
from litestar.di import Provide
from litestar.types import ASGIApp, Receive, Scope, Send

from bus.memory import MemoryBus
from bus.objects import ObjectStore
from server.auth.activity import Activity
from server.auth.api_keys import ApiKeys
from server.auth.authenticator import Authenticator
from server.auth.guards import require_principal
from server.auth.principal import Principal
from server.auth.principal import Scope as Right
from server.auth.sockets import SocketRegistry
from server.database import Database
from server.ids import new_id
from server.records import EmbeddingJobRecord, JobEventRecord, JobStateChangedRecord
from server.rest.errors import exception_handlers
from server.rest.event_streams import until_revoked
from server.rest.jobs import JobsController
from tests.support.jobs import HOSTED, Replica, Worker, make_user, vector_of
from tests.support.processes import until

Event = dict[str, Any]


class Caller:
    """Who the next request comes from."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal


@pytest.fixture
def caller(owner: Principal) -> Caller:
    """The owner, unless a test says otherwise."""
    return Caller(owner)


def _principal(request: Request[Any, Any, Any]) -> Principal:
    return require_principal(request)


@pytest.fixture
async def sockets(bus: MemoryBus, database: Database) -> AsyncIterator[SocketRegistry]:
    """What ends streams whose credential has ended."""
    activity = Activity(database)
    sockets = SocketRegistry(bus, Authenticator(database, activity, session_idle_s=3600), activity)
    await sockets.start()
    yield sockets
    await sockets.close()


@pytest.fixture
def app(replica: Replica, caller: Caller, sockets: SocketRegistry) -> Litestar:
    """The controller on real services, behind a middleware that takes everybody's word."""

    def sign_in(app: ASGIApp) -> ASGIApp:
        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("state", {})["principal"] = caller.principal
            await app(scope, receive, send)

        return call

    given: dict[str, Callable[..., object]] = {
        "principal": _principal,
        "embedding_jobs": lambda: replica.jobs,
        "job_history": lambda: replica.history,
        "sockets": lambda: sockets,
        "job_cancellations": lambda: replica.cancellations,
    }
    return Litestar(
        [JobsController],
        dependencies={name: Provide(give, sync_to_thread=False) for name, give in given.items()},
        middleware=[sign_in],
        exception_handlers=exception_handlers(),
    )


@pytest.fixture
async def rest(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app."""
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


@pytest.fixture
async def ended(replica: Replica, worker: Worker, owner: Principal) -> EmbeddingJobRecord:
    """A job that has succeeded, with item 3 failed."""
    job = await replica.create(owner, 5)
    claimed = await worker.claim(job.id)
    for chunk in range(3):
        await worker.report(claimed, chunk, failed=[3] if chunk == 1 else [])
    await replica.projection.step()
    return job


def _events(stream: str) -> list[Event]:
    """Read server-sent events as a browser does: blocks of fields, ended by an empty line."""
    blocks = [block for block in stream.split("\n\n") if block]
    events = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    return [{**event, "data": json.loads(event["data"])} for event in events]


async def test_a_job_is_accepted_and_can_be_found(rest: httpx.AsyncClient) -> None:
    answer = await rest.post("/v1/jobs", json={"texts": ["one", "two"], "idempotency_key": "monday"})

    job = answer.json()
    assert (202, f"/v1/jobs/{job['id']}") == (answer.status_code, answer.headers["location"])
    assert ("QUEUED", HOSTED.name, 2, 0) == (
        job["state"],
        job["pipeline"],
        job["item_count"],
        job["completed_count"],
    )
    assert (None, None) == (job["result_url"], job["error"])
    assert job == (await rest.get(answer.headers["location"])).json()
    assert {"data": [job], "has_more": False, "next_cursor": None} == (await rest.get("/v1/jobs")).json()
    again = await rest.post("/v1/jobs", json={"texts": ["one", "two"], "idempotency_key": "monday"})
    assert (202, job) == (again.status_code, again.json())


@pytest.mark.parametrize(
    ("body", "status", "code", "path"),
    [
        ("[]", 400, "INVALID_INPUT", None),
        ("{", 400, "INVALID_INPUT", None),
        ("{}", 400, "INVALID_INPUT", ["texts"]),
        ('{"texts": "one"}', 400, "INVALID_INPUT", ["texts"]),
        ('{"texts": [1]}', 400, "INVALID_INPUT", ["texts"]),
        ('{"texts": ["one", ""]}', 400, "INVALID_INPUT", ["texts", "1"]),
        ('{"texts": ["one", "\\ud800"]}', 400, "INVALID_INPUT", ["texts", "1"]),
        ('{"texts": ["one"], "pipeline": "\\ud800"}', 400, "INVALID_INPUT", ["pipeline"]),
        ('{"texts": ["one"], "pipeline": "nobody"}', 404, "NOT_FOUND", ["pipeline"]),
        ('{"texts": ["one"], "colour": "blue"}', 400, "INVALID_INPUT", ["colour"]),
        ('{"file_ids": ["mine"]}', 404, "NOT_FOUND", ["file_ids", "0"]),
        ('{"file_ids": ["' + str(new_id()) + '"]}', 404, "NOT_FOUND", ["file_ids", "0"]),
        ('{"texts": ["one"], "idempotency_key": ""}', 400, "INVALID_INPUT", ["idempotency_key"]),
    ],
)
async def test_a_body_that_is_no_job_is_refused_by_field(
    rest: httpx.AsyncClient, body: str, status: int, code: str, path: list[str] | None
) -> None:
    answer = await rest.post("/v1/jobs", content=body, headers={"content-type": "application/json"})

    error = answer.json()["error"]
    assert (status, code, path) == (answer.status_code, error["code"], error["path"])


async def test_a_key_used_for_another_request_is_a_conflict(rest: httpx.AsyncClient) -> None:
    await rest.post("/v1/jobs", json={"texts": ["one"], "idempotency_key": "monday"})
    answer = await rest.post("/v1/jobs", json={"texts": ["two"], "idempotency_key": "monday"})

    assert (409, "CONFLICT") == (answer.status_code, answer.json()["error"]["code"])


async def test_a_form_of_another_page_can_make_no_job(rest: httpx.AsyncClient) -> None:
    answer = await rest.post("/v1/jobs", content='{"texts": ["one"]}', headers={"content-type": "text/plain"})

    assert 415 == answer.status_code


async def test_every_event_is_sent_with_its_cursor_as_id(
    rest: httpx.AsyncClient, ended: EmbeddingJobRecord
) -> None:
    answer = await rest.get(f"/v1/jobs/{ended.id}/events")

    assert (200, "no-store") == (answer.status_code, answer.headers["cache-control"])
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = _events(answer.text)
    assert ["job_state_changed"] * 2 + ["item_embedded"] * 3 + ["item_failed", "item_embedded"] + [
        "job_state_changed"
    ] == [event["event"] for event in events]
    assert ["QUEUED", "RUNNING", "SUCCEEDED"] == [
        event["data"]["state"] for event in events if event["event"] == "job_state_changed"
    ]
    for event in events:
        if event["event"] == "item_embedded":
            assert vector_of(event["data"]["index"]).tolist() == event["data"]["vector"]
    failed = next(event["data"] for event in events if event["event"] == "item_failed")
    assert (3, "INVALID_INPUT", "It is bad.", 1) == (
        failed["index"],
        failed["code"],
        failed["message"],
        failed["attempt"],
    )


async def test_a_client_that_comes_back_goes_on_after_the_last_event_it_saw(
    rest: httpx.AsyncClient, ended: EmbeddingJobRecord
) -> None:
    url = f"/v1/jobs/{ended.id}/events"
    ids = [event["id"] for event in _events((await rest.get(url)).text)]

    for cut, last_id in enumerate(ids[:-1], start=1):
        answer = await rest.get(url, headers={"last-event-id": last_id})
        assert ids[cut:] == [event["id"] for event in _events(answer.text)]

    # This status keeps a browser from coming back.
    assert 204 == (await rest.get(url, headers={"last-event-id": ids[-1]})).status_code
    answer = await rest.get(url, headers={"last-event-id": "yesterday"})
    assert (400, ["after"]) == (answer.status_code, answer.json()["error"]["path"])


async def test_a_job_that_is_deleted_while_it_is_read_ends_the_stream_in_order(
    rest: httpx.AsyncClient, ended: EmbeddingJobRecord, objects: ObjectStore, database_url: str
) -> None:
    retention = await asyncpg.connect(database_url)
    async with retention.transaction():
        await retention.execute("SELECT id FROM jobs WHERE id = $1 FOR UPDATE", ended.id)
        await objects.delete_below(f"jobs/{ended.id}")

        answer = await rest.get(f"/v1/jobs/{ended.id}/events")
    await retention.close()

    assert 200 == answer.status_code
    assert {"job_state_changed"} == {event["event"] for event in _events(answer.text)}


async def test_who_follows_enough_already_is_refused(
    rest: httpx.AsyncClient, ended: EmbeddingJobRecord, sockets: SocketRegistry
) -> None:
    sockets._max_of_user = 0
    answer = await rest.get(f"/v1/jobs/{ended.id}/events")

    error, retry_after = answer.json()["error"], answer.headers["retry-after"]
    assert (429, "RATE_LIMITED", "5") == (answer.status_code, error["code"], retry_after)


class Browser:
    """A client that reads a stream while it comes, and may hang up."""

    def __init__(self, app: Litestar, path: str) -> None:
        self.received = b""
        self._gone = asyncio.Event()
        self._has_asked = False
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "scheme": "http",
            "http_version": "1.1",
            "server": ("localhost", 80),
            "client": ("localhost", 1),
        }
        self._request = asyncio.create_task(app(scope, self._receive, self._send))  # type: ignore[arg-type]

    async def hang_up(self) -> None:
        """Close the connection."""
        self._gone.set()
        await self.read_to_the_end()

    async def read_to_the_end(self) -> None:
        """Wait until the server has ended its answer."""
        await asyncio.wait_for(self._request, 5)

    async def _receive(self) -> Any:  # noqa: ANN401 - an ASGI message
        if not self._has_asked:
            self._has_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:  # noqa: ANN401 - an ASGI message
        self.received += message.get("body", b"")
        if message["type"] == "http.response.body" and not message.get("more_body"):
            # What a server says once the answer is complete.
            self._gone.set()


async def test_a_client_that_hangs_up_in_a_stream_leaves_nothing_behind(
    app: Litestar, replica: Replica, owner: Principal, sockets: SocketRegistry
) -> None:
    job = await replica.create(owner, 1)
    browser = Browser(app, f"/v1/jobs/{job.id}/events")
    await until(lambda: b"QUEUED" in browser.received)
    assert not replica.history.is_idle

    await browser.hang_up()

    await until(lambda: replica.history.is_idle)
    assert {} == sockets._handles


async def test_a_stream_ends_with_the_key_that_asked_for_it(
    app: Litestar, replica: Replica, owner: Principal, database: Database, bus: MemoryBus
) -> None:
    job = await replica.create(owner, 1)
    browser = Browser(app, f"/v1/jobs/{job.id}/events")
    await until(lambda: b"QUEUED" in browser.received)

    await ApiKeys(database, bus).revoke(owner, owner.credential_id)

    await browser.read_to_the_end()
    await until(lambda: replica.history.is_idle)
    late = Browser(app, f"/v1/jobs/{job.id}/events")
    await late.read_to_the_end()
    assert b"" == late.received


async def test_a_stream_is_not_silent_for_long(
    replica: Replica, worker: Worker, owner: Principal, sockets: SocketRegistry
) -> None:
    job = await replica.create(owner, 1)
    events = replica.history.subscribe(owner.user_id, job.id)
    async with aclosing(until_revoked(events, principal=owner, sockets=sockets, idle_s=0.01)) as stream:
        told: list[JobEventRecord | None] = []
        async with asyncio.timeout(5):
            while told.count(None) < 3 or len(told) == told.count(None):
                told.append(await anext(stream))
            await worker.finish(await worker.claim(job.id))
            await replica.projection.step()
            told += [event async for event in stream]

    assert ["QUEUED", "RUNNING", "SUCCEEDED"] == [
        event.state for event in told if isinstance(event, JobStateChangedRecord)
    ]


async def test_the_vectors_come_as_one_attachment(rest: httpx.AsyncClient, ended: EmbeddingJobRecord) -> None:
    job = (await rest.get(f"/v1/jobs/{ended.id}")).json()
    answer = await rest.get(job["result_url"])

    assert (200, str(len(answer.content))) == (answer.status_code, answer.headers["content-length"])
    assert answer.headers["content-disposition"].startswith(f'attachment; filename="{ended.id}.npy"')
    assert ("nosniff", "default-src 'none'; sandbox") == (
        answer.headers["x-content-type-options"],
        answer.headers["content-security-policy"],
    )
    result = np.load(BytesIO(answer.content), allow_pickle=False)
    assert [False, False, False, True, False] == np.isnan(result).all(axis=1).tolist()


async def test_a_failed_job_says_why_and_has_no_result(
    rest: httpx.AsyncClient, replica: Replica, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 1)
    await worker.give_up(await worker.claim(job.id), "It can't be done.")
    await replica.projection.step()

    view = (await rest.get(f"/v1/jobs/{job.id}")).json()
    assert {"code": "INVALID_INPUT", "message": "It can't be done."} == view["error"]
    assert 409 == (await rest.get(f"/v1/jobs/{job.id}/result")).status_code


@pytest.mark.parametrize("part", ["", "/events", "/result"])
async def test_somebody_elses_job_is_not_there(
    rest: httpx.AsyncClient, caller: Caller, database: Database, ended: EmbeddingJobRecord, part: str
) -> None:
    caller.principal = await make_user(database)

    assert 404 == (await rest.get(f"/v1/jobs/{ended.id}{part}")).status_code
    assert [] == (await rest.get("/v1/jobs")).json()["data"]


@pytest.mark.parametrize("path", ["", "/{}", "/{}/events", "/{}/result"])
async def test_a_key_for_training_alone_sees_no_job(
    rest: httpx.AsyncClient, caller: Caller, ended: EmbeddingJobRecord, path: str
) -> None:
    caller.principal = msgspec.structs.replace(caller.principal, scopes=frozenset({Right.TRAIN}))

    assert 403 == (await rest.get("/v1/jobs" + path.format(ended.id))).status_code
    assert 403 == (await rest.post("/v1/jobs", json={"texts": ["one"]})).status_code


async def test_a_job_is_cancelled_over_rest_and_only_once(
    rest: httpx.AsyncClient, replica: Replica, owner: Principal, ended: EmbeddingJobRecord
) -> None:
    job = await replica.create(owner, 3)

    first = await rest.post(f"/v1/jobs/{job.id}/cancel")
    second = await rest.post(f"/v1/jobs/{job.id}/cancel")

    assert (200, "CANCELLED") == (first.status_code, first.json()["state"])
    assert (409, "JOB_FINISHED", ["job_id"]) == (
        second.status_code,
        second.json()["error"]["code"],
        second.json()["error"]["path"],
    )
    assert 409 == (await rest.post(f"/v1/jobs/{ended.id}/cancel")).status_code
    assert 404 == (await rest.post(f"/v1/jobs/{new_id()}/cancel")).status_code
    assert "SUCCEEDED" == (await rest.get(f"/v1/jobs/{ended.id}")).json()["state"]
