"""Metrics of the server process: OpenTelemetry instruments, read by Prometheus at ``/metrics``."""

from time import perf_counter

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest

#: Seconds; from a cache hit to a request at its deadline.
_LATENCY_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


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


class RequestMetrics:
    """ASGI middleware that counts requests by route, never by path: ids would be unbounded labels."""

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
