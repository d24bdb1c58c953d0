"""One trace from an HTTP request over the bus to the worker and back, on a real NATS server and database."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from bus.client import NatsBus
from tests.support.embedding import until
from tests.support.tiny import Addresses, sign_in, tiny_server, tiny_worker, wait_until_hosted

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACED = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}


@pytest.fixture
def addresses(database_url: str, nats_url: str, nats_bus: NatsBus, tmp_path: Path) -> Addresses:
    return Addresses(database_url=database_url, nats_url=nats_url, object_store_url=tmp_path.as_uri())


@pytest.fixture
async def client(addresses: Addresses) -> AsyncIterator[httpx.AsyncClient]:
    async with tiny_server(addresses) as client, tiny_worker(addresses):
        await sign_in(client)
        await wait_until_hosted(client)
        yield client


def _of_trace(spans: InMemorySpanExporter, trace_id: str = TRACE_ID) -> dict[str, ReadableSpan]:
    """The spans of a trace by name; of several with one name, the first to end."""
    found: dict[str, ReadableSpan] = {}
    for span in spans.get_finished_spans():
        if span.context is not None and f"{span.context.trace_id:032x}" == trace_id:
            found.setdefault(span.name, span)
    return found


async def _until_traced(spans: InMemorySpanExporter, *names: str) -> dict[str, ReadableSpan]:
    async def are_there() -> bool:
        return set(names) <= _of_trace(spans).keys()

    await until(are_there)
    return _of_trace(spans)


def _parents(named: dict[str, ReadableSpan], name: str) -> list[str]:
    """The names of the spans around a span, the nearest first."""
    by_id = {span.context.span_id: span for span in named.values() if span.context is not None}
    names = []
    parent = named[name].parent
    while parent is not None and parent.span_id in by_id:
        span = by_id[parent.span_id]
        names.append(span.name)
        parent = span.parent
    return names


async def test_an_embed_call_is_one_trace_to_the_worker_and_back(
    client: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    answer = await client.post("/v1/embeddings", headers=TRACED, json={"model": "tiny", "input": "abc"})

    assert 200 == answer.status_code
    named = await _until_traced(spans, "POST /v1/embeddings", "process reply")
    assert [
        "send reply",
        "process embed.interactive",
        "send embed.interactive",
        "POST /v1/embeddings",
    ] == _parents(named, "process reply")


async def test_a_job_is_one_trace_through_the_outbox_to_the_worker_and_back(
    client: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    answer = await client.post("/v1/jobs", headers=TRACED, json={"texts": ["a", "bc"]})

    assert answer.is_success, answer.text
    named = await _until_traced(spans, "process event.job", "process job.embed", "POST /v1/jobs")
    assert ["send event.job", "process job.embed", "send job.embed", "POST /v1/jobs"] == _parents(
        named, "process event.job"
    )
    assert ["send job.ask.claim", "process job.embed", "send job.embed", "POST /v1/jobs"] == _parents(
        named, "process job.ask.claim"
    )


async def test_a_request_is_named_by_its_route_and_never_by_its_path(
    client: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    await client.get("/v1/jobs/77777777-7777-7777-7777-777777777777", headers=TRACED)

    [span] = _of_trace(spans).values()
    assert ("GET /v1/jobs/{job_id}", SpanKind.SERVER) == (span.name, span.kind)
    assert span.attributes is not None
    assert 404 == span.attributes["http.response.status_code"]
    assert "7777" not in f"{span.name} {dict(span.attributes)}"


async def test_a_client_that_traces_nothing_or_nonsense_gets_a_trace_of_its_own(
    client: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    spans.clear()

    for headers in (
        {},
        {"traceparent": "nonsense"},
        {"traceparent": "00-" + "0" * 32 + "-0000000000000000-01"},
    ):
        assert 200 == (await client.get("/health/live", headers=headers)).status_code

    served = [span for span in spans.get_finished_spans() if span.name == "GET /health/live"]
    assert [None] * 3 == [span.parent for span in served]
    assert 3 == len({span.context.trace_id for span in served if span.context is not None})
