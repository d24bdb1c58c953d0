"""Metrics of the server process, read at ``/metrics``, and spans of requests and of operations of sockets."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from litestar.enums import ScopeType
from litestar.status_codes import HTTP_500_INTERNAL_SERVER_ERROR
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode
from prometheus_client import CollectorRegistry, generate_latest

from bus import tracing

#: Seconds; from a cache hit to a request at its deadline.
_LATENCY_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


_OPERATION = "WEBSOCKET /graphql"
_TRACEPARENT_HEADER = tracing.TRACEPARENT.encode()


class Telemetry:
    """One process's instruments. Nothing is registered globally, so that two apps can live in one process."""

    def __init__(self, *, service: str) -> None:
        self._registry = CollectorRegistry()
        self._provider = MeterProvider(
            metric_readers=[PrometheusMetricReader(registry=self._registry, scope_info_enabled=False)],
            resource=Resource.create({"service.name": service}),
            views=[
                View(
                    instrument_name="*.duration",
                    aggregation=ExplicitBucketHistogramAggregation(_LATENCY_BUCKETS),
                )
            ],
        )

    @property
    def meter(self) -> Meter:
        """Where services get their instruments."""
        return self._provider.get_meter("towhee_api")

    def render(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self._registry)

    def close(self) -> None:
        """Stop collecting."""
        self._provider.shutdown()


class RequestTelemetry:
    """ASGI middleware that counts and traces requests by route, never by path: ids would be unbounded labels.

    The span goes on where the client's ``traceparent`` says, and everything the request makes other
    processes do belongs to its trace.
    """

    def __init__(self, app: ASGIApp, *, meter: Meter) -> None:
        self._app = app
        self._duration = meter.create_histogram(
            "http.server.request.duration", unit="s", description="Time from request to last byte."
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and remember how long it took and how it ended."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        tracer = tracing.find_tracer()
        if tracer is None:
            await self._serve(scope, receive, send, INVALID_SPAN)
            return
        parent = tracing.extract({tracing.TRACEPARENT: traceparent_of(scope)})
        with tracer.start_as_current_span(scope["method"], context=parent, kind=SpanKind.SERVER) as span:
            await self._serve(scope, receive, send, span)

    async def _serve(self, scope: HTTPScope, receive: Receive, send: Send, span: Span) -> None:
        started = perf_counter()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            attributes: dict[str, str | int] = {
                "http.request.method": scope["method"],
                "http.route": scope.get("path_template", "unmatched"),
                "http.response.status_code": status,
            }
            self._duration.record(perf_counter() - started, attributes)
            if span.is_recording():
                _describe(span, attributes)


def traceparent_of(scope: Scope) -> str:
    """Return the trace context that a client has sent in a header; empty if it has sent none."""
    return dict(scope["headers"]).get(_TRACEPARENT_HEADER, b"").decode("latin-1")


@contextmanager
def serving_operation(traceparent: str) -> Iterator[Span]:
    """Run one operation of a socket in a span, which goes on where ``traceparent`` says if it says so.

    The name is fixed: what an operation is called is the client's to say, and without bounds.
    """
    tracer = tracing.find_tracer()
    if tracer is None:
        yield INVALID_SPAN
        return
    parent = tracing.extract({tracing.TRACEPARENT: traceparent})
    with tracer.start_as_current_span(_OPERATION, context=parent, kind=SpanKind.SERVER) as span:
        yield span


def _describe(span: Span, attributes: dict[str, str | int]) -> None:
    # The route is known only now: routing is behind this middleware.
    span.update_name(f"{attributes['http.request.method']} {attributes['http.route']}")
    span.set_attributes(attributes)
    if int(attributes["http.response.status_code"]) >= HTTP_500_INTERNAL_SERVER_ERROR:
        span.set_status(StatusCode.ERROR)
