"""W3C trace context through message headers, and the names of our spans.

OpenTelemetry's conventions for messaging are still in development, so the names live here only. A name
never holds an id: spans are called after the family of the subject. Without a configured SDK all of this
comes down to a few attribute look-ups. Who configures one is `bus.exporting`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bus import subjects

TRACEPARENT = "traceparent"


def find_tracer() -> Tracer | None:
    """Return the tracer of the configured SDK; None when there is none, and so nobody to record a span."""
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else _tracer_of(provider)


@cache
def _tracer_of(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("towhee.bus")


@cache
def _propagator() -> TraceContextTextMapPropagator:
    return TraceContextTextMapPropagator()


def extract(headers: Mapping[str, str]) -> Context:
    """Return the trace context that the headers carry; an empty one if they carry none."""
    return _propagator().extract(headers, context=Context())


def inject(headers: dict[str, str]) -> None:
    """Write the current trace context into the headers, if there is one."""
    if trace.get_current_span().get_span_context().is_valid:
        _propagator().inject(headers)


def current_traceparent() -> str | None:
    """Return the current trace context, for whoever sends a message later, from another process perhaps."""
    headers: dict[str, str] = {}
    inject(headers)
    return headers.get(TRACEPARENT)


@contextmanager
def telling(subject: str, headers: dict[str, str]) -> Iterator[None]:
    """Run in a span ``send <family>`` if something is traced; what is told begins no trace of its own."""
    if trace.get_current_span().get_span_context().is_valid:
        with sending(subject, headers):
            yield
    else:
        yield


@contextmanager
def sending(subject: str, headers: dict[str, str]) -> Iterator[None]:
    """Run in a span ``send <family>``, whose context goes into ``headers``."""
    tracer = find_tracer()
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
def following(subject: str, headers: Mapping[str, str]) -> Iterator[None]:
    """Run in a span ``process <family>`` if the message was told in a trace."""
    if TRACEPARENT in headers:
        with processing(subject, headers):
            yield
    else:
        yield


@contextmanager
def processing(subject: str, headers: Mapping[str, str], *, num_delivered: int = 1) -> Iterator[None]:
    """Run in a span ``process <family>``, the child of the one that sent the message."""
    with processing_batch(subject, [headers], num_delivered=num_delivered):
        yield


@contextmanager
def processing_batch(
    subject: str, batch: Sequence[Mapping[str, str]], *, num_delivered: int = 1
) -> Iterator[None]:
    """Run in one span for several messages of one subject: the first one's child, linked to the others.

    Args:
        subject: of all of them.
        batch: the headers of each, at least one.
        num_delivered: how often the first was delivered.
    """
    tracer = find_tracer()
    if tracer is None:
        with continuing(batch[0]):
            yield
        return
    name = subjects.family(subject)
    first, *others = (extract(headers) for headers in batch)
    attributes = {**_attributes("process", name), "messaging.nats.num_delivered": num_delivered}
    if others:
        attributes["messaging.batch.message_count"] = len(batch)
    with tracer.start_as_current_span(
        f"process {name}",
        context=first if TRACEPARENT in batch[0] else None,
        kind=SpanKind.CONSUMER,
        attributes=attributes,
        links=[Link(trace.get_current_span(other).get_span_context()) for other in others],
    ):
        yield


@contextmanager
def continuing(headers: Mapping[str, str]) -> Iterator[None]:
    """Run in the trace of the sender, without a span of its own."""
    if TRACEPARENT not in headers:
        yield
        return
    token = context.attach(extract(headers))
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
