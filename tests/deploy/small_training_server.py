"""The routes that `towhee-api train` and `towhee-api embed` ask, as a server that does what a test wants."""

import base64
import email.message
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import numpy as np

KEY = "twh_test"
JOB, DATASET, MODEL = "job-1", "dataset-1", "model-1"
VECTOR = np.array([0.6, 0.8], dtype=np.float32)


def progressed(step: int, total_steps: int = 40, **data: object) -> tuple[str, dict[str, Any]]:
    """An event of a training."""
    metrics = {"accuracy": 0.5, "loss_g": 1.25 / step}
    fields = {"step": step, "total_steps": total_steps, "epoch": 1, "metrics": metrics, "eta_seconds": 75.0}
    return "training_progressed", {**fields, **data}


EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("job_state_changed", {"state": "QUEUED", "reason": None}),
    ("job_state_changed", {"state": "RUNNING", "reason": None}),
    progressed(10),
    ("samples_generated", {"step": 10, "image_url": f"/v1/training/jobs/{JOB}/samples/4", "text": None}),
    ("training_warned", {"step": 20, "warning": "COLLAPSE", "message": "All samples look\u2028alike."}),
    ("samples_generated", {"step": 30, "image_url": None, "text": "to be\nor not"}),
    ("something_new", {}),
    progressed(40),
    ("model_exported", {"model_id": MODEL}),
    ("job_state_changed", {"state": "SUCCEEDED", "reason": None}),
]


class Plan:
    """What the server does and what it was asked."""

    def __init__(self) -> None:
        self.events = EVENTS
        #: How many events each connection gets before it breaks off; the last is for all that follow.
        self.cuts = [1000]
        #: Whether a connection that breaks off does so within an event.
        self.is_torn = False
        #: Statuses that are answered first, whatever is asked.
        self.failures: list[int] = []
        self.end = {"state": "SUCCEEDED", "model_id": MODEL, "error": None}
        self.dataset: dict[str, Any] = {"status": "READY", "issues": [], "issue_count": 0}
        self.looks_left = 1
        self.refusal: dict[str, Any] | None = None
        self.asked: list[tuple[str, str, Any]] = []
        self.last_ids: list[str | None] = []
        self.uploaded: list[tuple[str, bytes]] = []
        self.deleted: list[str] = []
        self.connections = 0
        self.has_asked_events = threading.Event()

    def bodies(self, path: str) -> list[Any]:
        """What was posted to a path."""
        return [body for method, where, body in self.asked if (method, where) == ("POST", path)]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    plan: ClassVar[Plan]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer, or stream events."""
        if self.path.endswith("/events"):
            self._stream()
        elif self.path.startswith("/v1/datasets/"):
            self.plan.looks_left -= 1
            self._answer(self._dataset())
        else:
            self._answer(self._job())

    def do_DELETE(self) -> None:
        """Forget a file."""
        self.plan.deleted.append(self.path.rpartition("/")[2])
        self._answer({}, status=204)

    def do_POST(self) -> None:
        """Take what is sent."""
        raw = self.rfile.read(int(self.headers["content-length"]))
        if self.plan.failures:
            self._refuse(self.plan.failures.pop(0), "BUSY", "Later.")
            return
        if self.path == "/v1/files":
            self._answer({"id": self._upload(raw)}, status=201)
            return
        body = json.loads(raw)
        self.plan.asked.append(("POST", self.path, body))
        if self.headers["authorization"] != f"Bearer {KEY}":
            self._refuse(401, "UNAUTHENTICATED", "The key is not known.")
        elif self.plan.refusal is not None:
            self._answer({"error": self.plan.refusal}, status=400)
        elif self.path == "/v1/embeddings/files":
            self._answer(self._embeddings(body["file_ids"]))
        elif self.path.endswith("/deploy"):
            self._answer({"id": MODEL, "pipeline": {"name": f"model/{body['name']}", "version": "3"}})
        else:
            self._answer(self._dataset() if self.path == "/v1/datasets" else self._job(), status=202)

    def _upload(self, raw: bytes) -> str:
        message = email.message_from_bytes(
            b"content-type: " + self.headers["content-type"].encode() + b"\r\n\r\n" + raw
        )
        (part,) = message.get_payload()
        assert isinstance(part, email.message.Message)
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        self.plan.uploaded.append((str(part.get_filename()), content))
        return f"file-{len(self.plan.uploaded)}"

    def _embeddings(self, file_ids: list[str]) -> dict[str, Any]:
        data: list[dict[str, Any]] = []
        failures = []
        for index, file_id in enumerate(file_ids):
            _, content = self.plan.uploaded[int(file_id.rpartition("-")[2]) - 1]
            raw = None if content == b"bad" else base64.b64encode(VECTOR.tobytes()).decode()
            data.append({"index": index, "embedding": raw})
            if raw is None:
                failures.append({"index": index, "code": "INVALID_INPUT", "message": "It is bad."})
        return {"data": data, "model": "tiny", "failures": failures}

    def _dataset(self) -> dict[str, Any]:
        found = self.plan.dataset if self.plan.looks_left <= 0 else {"status": "VALIDATING", "issues": []}
        return {
            "id": DATASET,
            "name": "cats",
            "version": 2,
            "row_count": 1200,
            "classes": ["a", "b"],
            **found,
        }

    def _job(self) -> dict[str, Any]:
        return {"id": JOB, **self.plan.end}

    def _stream(self) -> None:
        plan = self.plan
        last_id = self.headers["last-event-id"]
        plan.last_ids.append(last_id)
        start = int(last_id or 0)
        if start == len(plan.events):
            self._answer({}, status=204)
            return
        cut = plan.cuts[min(plan.connections, len(plan.cuts) - 1)]
        plan.connections += 1
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for number, (name, data) in enumerate(plan.events[start : start + cut], start + 1):
            self.wfile.write(b":\n\n" + encoded(number, name, data))
        if plan.is_torn and start + cut < len(plan.events):
            self.wfile.write(encoded(start + cut + 1, *plan.events[start + cut])[:-1])
        self.wfile.flush()
        plan.has_asked_events.set()
        self.close_connection = True

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._answer({"error": {"code": code, "message": message, "path": None}}, status=status)

    def _answer(self, body: dict[str, Any], *, status: int = 200) -> None:
        raw = b"" if status == 204 else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def encoded(number: int, name: str, data: dict[str, Any]) -> bytes:
    """An event as the server writes it, with characters that are no ASCII left as they are."""
    text = json.dumps({**data, "attempt": 1}, ensure_ascii=False)
    return f"id: {number}\nevent: {name}\ndata: {text}\n\n".encode()


@contextmanager
def small_training_server(plan: Plan) -> Iterator[str]:
    """Serve on loopback; gives the address."""
    handler = type("PlannedHandler", (Handler,), {"plan": plan})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def lines_with(words: str, text: str) -> list[str]:
    """The lines in which words stand."""
    return [line for line in re.split(r"[\r\n]+", text) if words in line]
