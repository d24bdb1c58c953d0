"""W3C trace context through message headers, and the names of our spans.

OpenTelemetry's conventions for messaging are still in development, so the names live here only. A name
never holds an id: spans are called after the family of the subject. Without a configured SDK all of this
comes down to a few attribute look-ups.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bus import subjects

TRACEPARENT = "traceparent"


def _find_tracer() -> Tracer | None:
    """Return the tracer of the configured SDK; None when there is none, and so nobody to record a span."""
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else _tracer_of(provider)


@cache
def _tracer_of(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("towhee.bus")


@cache
def _propagator() -> TraceContextTextMapPropagator:
    return TraceContextTextMapPropagator()


def inject(headers: dict[str, str]) -> None:
    """Write the current trace context into the headers, if there is one."""
    if trace.get_current_span().get_span_context().is_valid:
        _propagator().inject(headers)


@contextmanager
def sending(subject: str, headers: dict[str, str]) -> Iterator[None]:
    """Run in a span ``send <family>``, whose context goes into ``headers``."""
    tracer = _find_tracer()
    if tracer is None:
        inject(headers)
        yield
        return
    name = subjects.family(subject)
    with tracer.start_as_current_span(
        f"send {name}", kind=SpanKind.PRODUCER, attributes=_attributes("send", name)
    ):
        inject(headers)
        yield


@contextmanager
def processing(subject: str, headers: Mapping[str, str], *, num_delivered: int = 1) -> Iterator[None]:
    """Run in a span ``process <family>``, the child of the one that sent the message."""
    tracer = _find_tracer()
    if tracer is None:
        with continuing(headers):
            yield
        return
    name = subjects.family(subject)
    parent = _propagator().extract(headers) if TRACEPARENT in headers else None
    attributes = {**_attributes("process", name), "messaging.nats.num_delivered": num_delivered}
    with tracer.start_as_current_span(
        f"process {name}", context=parent, kind=SpanKind.CONSUMER, attributes=attributes
    ):
        yield


@contextmanager
def continuing(headers: Mapping[str, str]) -> Iterator[None]:
    """Run in the trace of the sender, without a span of its own."""
    if TRACEPARENT not in headers:
        yield
        return
    token = context.attach(_propagator().extract(headers))
    try:
        yield
    finally:
        context.detach(token)


def _attributes(operation: str, name: str) -> dict[str, str | int]:
    return {
        "messaging.system": "nats",
        "messaging.operation.type": operation,
        "messaging.destination.template": name,
    }
