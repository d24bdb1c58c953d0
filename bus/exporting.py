"""Traces of this process go to an OpenTelemetry collector, if there is one.

The provider is the process's own, as OpenTelemetry wants it; so only an entry point may call this, once.
Without it `bus.tracing` finds no provider and makes no span.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace

_TRACES_PATH = "/v1/traces"


@contextmanager
def exporting_traces(endpoint: str | None, *, service: str) -> Iterator[None]:
    """Send the spans of the body to the collector, in the background; what is left goes out at the end.

    A collector that is away costs spans, never requests.

    Args:
        endpoint: of the collector, like ``http://host:4318``; None makes no spans at all.
        service: what this process is called in the traces.
    """
    if endpoint is None:
        yield
        return
    # Imported here because whoever makes no traces need not load an HTTP client and its messages.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    url = endpoint.rstrip("/").removesuffix(_TRACES_PATH) + _TRACES_PATH
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
