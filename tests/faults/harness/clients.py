"""Users with a list of two servers: they go to the other one when the first does not do, as an SDK would."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from random import Random
from typing import Any, Generic, Protocol, Self, TypeVar

import httpx
import msgspec
import numpy as np
import websockets

from tests.faults.harness.seen import CallSeen, EventSeen, JobSeen, RefusalSeen, Seen, Vector
from tests.faults.harness.stack import EMBED_TIMEOUT_S
from tests.support.api import ApiClient

#: An answer this long after the deadline of a call is no answer any more; the machine may be busy.
CALL_S = EMBED_TIMEOUT_S + 5.0
_REQUEST_S = 15.0
RETRY_S = 0.1
#: A socket that says nothing for this long is asked, and left if it does not answer in time.
_SILENT_S = 3.0
_PONG_S = 2.0
_JOB_FINISHED = "JOB_FINISHED"
#: Close codes: RFC 6455 and its registry.
_TRY_AGAIN_LATER = 1013
_FIRST_OWN_CODE = 4000

CREATE = """
    mutation($texts: [String!], $key: String) {
      createEmbeddingJob(input: {texts: $texts, idempotencyKey: $key}) {
        ... on EmbeddingJobPayload { job { id } }
        ... on Error { code message }
      }
    }"""
CANCEL = """
    mutation($job: ID!) {
      cancelEmbeddingJob(input: {jobId: $job}) {
        ... on EmbeddingJobPayload { job { state } }
        ... on Error { code message }
      }
    }"""
WATCH = """
    subscription($job: ID!, $after: String) {
      embeddingJobEvents(jobId: $job, after: $after) {
        __typename
        ... on JobEvent { cursor attempt }
        ... on JobStateChanged { state }
        ... on ItemEmbedded { index vector }
        ... on ItemFailed { index code }
      }
    }"""
JOB = """
    query($id: ID!) {
      node(id: $id) { ... on EmbeddingJob { state completedCount failedCount resultUrl } }
    }"""
NEWEST = "{ viewer { embeddingJobs(first: 100) { edges { node { id } } } } }"

#: What a connection does when its other end is killed, frozen or cut off.
BROKEN = (httpx.TransportError, httpx.InvalidURL, websockets.WebSocketException, OSError, TimeoutError)


class Refused(Exception):
    """The server has answered, with a code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Cursored(Protocol):
    """An event that a watcher can go on from."""

    @property
    def cursor(self) -> str:
        """Where it stands."""


E = TypeVar("E", bound=Cursored)


class Watched(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    """What a watcher follows, and what it has seen of it."""

    #: A subscription with the variables ``job`` and ``after``.
    query: str
    job_id: str
    events: list[E]
    #: Makes an event of the subscription's data.
    event_of: Callable[[Any], E]
    #: Events after which one who leaves on purpose leaves at the latest.
    longest_stay: int


class User:
    """One user; everything they see goes into ``seen``, which is changed from round to round."""

    def __init__(self, urls: Sequence[str], secret: str) -> None:
        self.urls = list(urls)
        self.secret = secret
        limits = httpx.Limits(max_connections=None)
        self._http = [
            httpx.AsyncClient(
                base_url=url,
                headers={"authorization": f"Bearer {secret}"},
                timeout=httpx.Timeout(_REQUEST_S, connect=2.0),
                limits=limits,
            )
            for url in urls
        ]
        self._known: set[str] = set()
        self.seen = Seen()

    @classmethod
    async def sign_up(cls, urls: Sequence[str]) -> Self:
        """Make an account and a key."""
        client = await ApiClient.sign_up(urls[0], scopes=("EMBED", "READ", "TRAIN"))
        await client.close()
        return cls(list(urls), client.secret)

    def owns(self, job_id: str) -> bool:
        """Whether an answer to this user named the job."""
        return job_id in self._known

    async def close(self) -> None:
        """Close the connections."""
        for http in self._http:
            await http.aclose()

    async def call(self, text: str, replica: int) -> bool:
        """Ask for one vector; return whether it came."""
        began_s = time.monotonic()
        outcome, code = await self._call(text, replica)
        self.seen.calls.append(
            CallSeen(replica=replica, began_s=began_s, ended_s=time.monotonic(), outcome=outcome, code=code)
        )
        return outcome == "answered"

    async def _call(self, text: str, replica: int) -> tuple[Any, str | None]:
        body = {"model": "auto", "input": text}
        try:
            async with asyncio.timeout(CALL_S):
                answer = await self._http[replica].post("/v1/embeddings", json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return "unreached", None
        except (httpx.TimeoutException, TimeoutError):
            return "hung", None
        except BROKEN as error:
            return "cut", type(error).__name__
        if answer.status_code != httpx.codes.OK:
            return "refused", _code_of(answer)
        [row] = answer.json()["data"]
        is_unit = abs(float(np.linalg.norm(row["embedding"])) - 1.0) < 1e-3
        return ("answered", None) if is_unit else ("refused", "NO_VECTOR")

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Embed texts while all is well."""
        answer = await self._http[0].post("/v1/embeddings", json={"model": "auto", "input": list(texts)})
        rows = answer.raise_for_status().json()["data"]
        return [np.array(row["embedding"], dtype=np.float32) for row in rows]

    async def hand_in(self, job: JobSeen, rng: Random) -> None:
        """Hand a job in until it is accepted; sometimes once more under the same key, elsewhere."""
        replica = rng.randrange(len(self.urls))
        again = rng.random() < 0.25
        while not job.ids or again:
            try:
                job_id = await self._create(job, replica)
            except BROKEN:
                await asyncio.sleep(RETRY_S)
            except Refused as refused:
                self.note("a job", refused.code)
                await asyncio.sleep(RETRY_S)
            else:
                again = again and not job.ids
                job.ids.append(job_id)
                self._known.add(job_id)
            replica = (replica + 1) % len(self.urls)

    async def _create(self, job: JobSeen, replica: int) -> str:
        data = await self.graphql(replica, CREATE, texts=job.texts, key=job.idempotency_key)
        result = data["createEmbeddingJob"]
        if "code" in result:
            raise Refused(result["code"])
        job_id: str = result["job"]["id"]
        return job_id

    async def cancel(self, job: JobSeen, rng: Random) -> None:
        """Order an accepted job to be cancelled until the order is answered, here or there."""
        replica = rng.randrange(len(self.urls))
        while job.cancel_answer is None:
            job.num_cancels += 1
            try:
                job.cancel_answer = await self._cancel(job, replica)
            except BROKEN:
                await asyncio.sleep(RETRY_S)
            except Refused as refused:
                self.note("a cancellation", refused.code)
                await asyncio.sleep(RETRY_S)
            replica = (replica + 1) % len(self.urls)

    async def _cancel(self, job: JobSeen, replica: int) -> str:
        data = await self.graphql(replica, CANCEL, job=job.ids[0])
        result = data["cancelEmbeddingJob"]
        if "code" not in result:
            state: str = result["job"]["state"]
            return state
        if result["code"] != _JOB_FINISHED:
            raise Refused(result["code"])
        return _JOB_FINISHED

    async def watch(self, job: JobSeen, events: list[EventSeen], rng: Random, *, leaves: int = 0) -> None:
        """Read a job's events to the end, over as many sockets as it takes, leaving ``leaves`` on purpose."""
        stay = max(1, len(job.texts) // 2)
        watched = Watched(
            query=WATCH, job_id=job.ids[0], events=events, event_of=_event_of, longest_stay=stay
        )
        await self.follow(watched, rng, leaves=leaves)

    async def follow(self, watched: "Watched[E]", rng: Random, *, leaves: int) -> None:
        """Read to the end of what a watcher watches, here and there, leaving ``leaves`` times on purpose."""
        replica = rng.randrange(len(self.urls))
        while True:
            leave_after = rng.randrange(1, 1 + watched.longest_stay) if leaves > 0 else None
            try:
                if await self._read(watched, replica, leave_after):
                    return
                leaves -= 1
            except BROKEN:
                self.seen.num_resumed += 1
                await asyncio.sleep(RETRY_S)
            except Refused as refused:
                self.note("a subscription", refused.code)
                await asyncio.sleep(RETRY_S)
            replica = (replica + 1) % len(self.urls)

    async def _read(self, watched: "Watched[E]", replica: int, leave_after: int | None) -> bool:
        """Return True at the end of the job, False after leaving on purpose."""
        events = watched.events
        after = events[-1].cursor if events else None
        num_read = 0
        async with self.subscribed(replica, watched.query, {"job": watched.job_id, "after": after}) as socket:
            while True:
                message = json.loads(await receive(socket))
                if message["type"] == "complete":
                    return True
                if message["type"] == "ping":
                    await socket.send('{"type": "pong"}')
                elif message["type"] in {"next", "error"}:
                    events.append(watched.event_of(data_of(message["payload"])))
                    num_read += 1
                    if num_read == leave_after:
                        return False

    @asynccontextmanager
    async def subscribed(
        self, replica: int, query: str, variables: dict[str, object]
    ) -> AsyncIterator[websockets.ClientConnection]:
        """Open a socket of its own with one subscription on it."""
        address = self.urls[replica].replace("http://", "ws://") + "/graphql"
        async with websockets.connect(
            address,
            subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
            proxy=None,
            max_queue=None,
            open_timeout=_SILENT_S,
            ping_interval=None,
        ) as socket:
            try:
                payload = {"authorization": f"Bearer {self.secret}"}
                await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
                await self._acknowledged(socket)
                subscribe = {"query": query, "variables": variables}
                await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": subscribe}))
                yield socket
            finally:
                socket.transport.abort()

    async def _acknowledged(self, socket: websockets.ClientConnection) -> None:
        try:
            async with asyncio.timeout(CALL_S):
                message = json.loads(await socket.recv())
        except websockets.ConnectionClosed as closed:
            code = None if closed.rcvd is None else closed.rcvd.code
            if code == _TRY_AGAIN_LATER:
                raise Refused("BUSY") from closed
            # 4000 and above are the protocol's: the server has said no.
            if code is not None and code >= _FIRST_OWN_CODE:
                raise Refused(f"CLOSE_{code}") from closed
            raise
        if message["type"] != "connection_ack":
            raise Refused(f"MESSAGE_{message['type']}")

    async def look_back(self, job: JobSeen, rng: Random) -> None:
        """Read all there is to know of a job that has ended, when all is well again."""
        history: list[EventSeen] = []
        await self.watch(job, history, rng)
        job.history = history
        node = (await self.ask(JOB, id=job.ids[0]))["node"]
        if node is None:
            job.history = None
            return
        job.state, job.completed, job.failed = node["state"], node["completedCount"], node["failedCount"]
        if node["resultUrl"]:
            answer = await self._http[rng.randrange(2)].get(node["resultUrl"])
            if answer.status_code == httpx.codes.OK:
                job.result = np.lib.format.read_array(BytesIO(answer.content), allow_pickle=False)

    async def look_for_strangers(self) -> None:
        """Find jobs of ours that no answer has named."""
        viewer = (await self.ask(NEWEST))["viewer"]
        ids = {edge["node"]["id"] for edge in viewer["embeddingJobs"]["edges"]}
        self.seen.unknown_ids += sorted(ids - self._known)
        self._known |= ids

    async def ask(self, query: str, **variables: object) -> Any:  # noqa: ANN401 - JSON
        """Run a query here or there until it is answered."""
        for replica in itertools.cycle(range(len(self.urls))):
            try:
                return await self.graphql(replica, query, **variables)
            except BROKEN:
                await asyncio.sleep(RETRY_S)
            except Refused as refused:
                self.note("a query", refused.code)
                await asyncio.sleep(RETRY_S)
        raise AssertionError("a cycle has no end")

    async def graphql(self, replica: int, query: str, **variables: object) -> Any:  # noqa: ANN401 - JSON
        """Run an operation at one replica.

        Raises:
            Refused: it was answered with errors.
        """
        answer = await self._http[replica].post("/graphql", json={"query": query, "variables": variables})
        body = answer.json()
        if "errors" in body:
            raise Refused(code_of_errors(body["errors"]))
        if "data" not in body:
            raise Refused(_code_of(answer))
        return body["data"]

    def note(self, what: str, code: str) -> None:
        """Remember that something was refused."""
        self.seen.refusals.append(RefusalSeen(what=what, code=code, at_s=time.monotonic()))


async def receive(socket: websockets.ClientConnection) -> str | bytes:
    """Return the next message; a server that is silent is asked whether it is there.

    Raises:
        TimeoutError: it is not.
    """
    with suppress(TimeoutError):
        return await asyncio.wait_for(socket.recv(), _SILENT_S)
    await socket.send('{"type": "ping"}')
    return await asyncio.wait_for(socket.recv(), _PONG_S)


def data_of(payload: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the data of what a subscription sent.

    Raises:
        Refused: it sent errors.
    """
    errors = payload if isinstance(payload, list) else payload.get("errors")
    if errors:
        raise Refused(code_of_errors(errors))
    return payload["data"]


def _event_of(data: Any) -> EventSeen:  # noqa: ANN401 - JSON
    event = data["embeddingJobEvents"]
    vector = event.get("vector")
    return EventSeen(
        cursor=event["cursor"],
        attempt=event["attempt"],
        at_s=time.monotonic(),
        state=event.get("state"),
        index=event.get("index"),
        vector=None if vector is None else np.array(vector[0], dtype=np.float32),
        code=event.get("code"),
    )


def _code_of(answer: httpx.Response) -> str:
    try:
        code: str = answer.json()["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP_{answer.status_code}"
    return code


def code_of_errors(errors: Any) -> str:  # noqa: ANN401 - JSON
    """Return the code of the first of a GraphQL answer's errors."""
    try:
        code: str = errors[0]["extensions"]["code"]
    except (KeyError, IndexError, TypeError):
        return "NO_CODE"
    return code
