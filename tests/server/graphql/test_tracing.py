"""An operation of a socket is served in a span, in the trace that the client names."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tests.support.graphql import GraphQLClient, hear, say
from tests.support.processes import until

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
EMBED = 'mutation { embed(input: { texts: ["a"] }) { __typename } }'
NAME = "WEBSOCKET /graphql"


async def _served(spans: InMemorySpanExporter, number: int) -> list[ReadableSpan]:
    """The spans of so many operations, which end a moment after their last message."""

    def found() -> list[ReadableSpan]:
        return [span for span in spans.get_finished_spans() if span.name == NAME]

    await until(lambda: len(found()) >= number)
    return found()


def _trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


async def _run(socket: Any, payload: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401, websockets' own
    await say(socket, type="subscribe", id="1", payload=payload)
    answer = await hear(socket)
    assert "complete" == (await hear(socket))["type"]
    return answer


async def test_what_an_operation_makes_others_do_belongs_to_the_trace_it_names(
    ada: GraphQLClient, spans: InMemorySpanExporter
) -> None:
    async with ada.socket() as socket:
        answer = await _run(socket, {"query": EMBED, "extensions": {"traceparent": TRACEPARENT}})

    assert {"embed": {"__typename": "EmbedPayload"}} == answer["payload"]["data"]
    [served] = await _served(spans, 1)
    assert (TRACE_ID, SpanKind.SERVER) == (_trace_id(served), served.kind)
    [sent] = [span for span in spans.get_finished_spans() if span.name == "send embed.interactive"]
    assert served.context is not None
    assert sent.parent is not None
    assert served.context.span_id == sent.parent.span_id


async def test_an_operation_goes_on_in_the_trace_of_the_handshake(
    ada: GraphQLClient, spans: InMemorySpanExporter
) -> None:
    async with ada.socket(additional_headers={"traceparent": TRACEPARENT}) as socket:
        await _run(socket, {"query": "{ viewer { id } }"})

    assert [TRACE_ID] == [_trace_id(span) for span in await _served(spans, 1)]


@pytest.mark.parametrize("extensions", [None, {"traceparent": 7}, {"traceparent": "nonsense"}])
async def test_an_operation_without_a_trace_begins_one(
    ada: GraphQLClient, spans: InMemorySpanExporter, extensions: dict[str, Any] | None
) -> None:
    async with ada.socket() as socket:
        for _ in range(2):
            await _run(socket, {"query": "{ viewer { id } }", "extensions": extensions})

    served = await _served(spans, 2)
    assert [None, None] == [span.parent for span in served]
    assert 2 == len({_trace_id(span) for span in served})
