"""Traces leave the process over OTLP, or are never made."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from gzip import decompress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_PROGRAM = """
import sys
from bus import tracing
from bus.exporting import exporting_traces

with exporting_traces(sys.argv[1] or None, service="test service"):
    with tracing.sending("job.embed.default.1", {}):
        pass
print("opentelemetry.sdk.trace" in sys.modules)
"""


class Collector(ThreadingHTTPServer):
    """Takes traces as an OpenTelemetry collector does, and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.received: list[tuple[str, ExportTraceServiceRequest]] = []


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = decompress(body)
        self.server.received.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


def _run(endpoint: str) -> subprocess.CompletedProcess[str]:
    # In a process of its own: a provider can be set once in the life of one.
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, endpoint], capture_output=True, text=True, timeout=30, check=True
    )


@pytest.mark.parametrize("path", ["", "/", "/v1/traces"])
def test_spans_reach_the_collector_before_the_process_ends(collector: Collector, path: str) -> None:
    _run(f"http://127.0.0.1:{collector.server_port}{path}")

    [(received_at, request)] = collector.received
    [resource] = request.resource_spans
    attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert ("/v1/traces", "test service") == (received_at, attributes["service.name"])
    assert ["send job.embed"] == [span.name for scope in resource.scope_spans for span in scope.spans]


def test_without_a_collector_the_machinery_is_not_even_loaded() -> None:
    assert "False\n" == _run("").stdout
