"""The part of S3 that the object store uses, with the rules that S3 has and a folder has not.

Protocol: Amazon S3 API reference, 2006-03-01.
"""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

import pytest

#: Every part but the last has at least this.
MIN_PART_BYTES = 5 * 1024 * 1024
BUCKET = "bucket"
_KEY = re.compile(rb"<Key>([^<]*)</Key>")


class S3:
    """Objects in memory behind a loopback port. If ``status`` is set, it is the answer to everything."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.status: int | None = None
        self.num_requests = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"s3": self}))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Be gone: connections are refused."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()

    @property
    def environ(self) -> Mapping[str, str]:
        """What a process needs to find it."""
        return {
            "AWS_ACCESS_KEY_ID": "access",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._http.server_port}",
            "AWS_ALLOW_HTTP": "true",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: ClassVar[S3]

    def setup(self) -> None:
        super().setup()
        # A connection that is kept open must not hold up the end of a test.
        self.connection.settimeout(5.0)

    def handle_one_request(self) -> None:
        self.s3.num_requests += 1
        # A client that gives up does not wait for the answer.
        with suppress(BrokenPipeError, ConnectionResetError):
            super().handle_one_request()

    def do_PUT(self) -> None:
        key, query, body = self._read()
        if "partNumber" in query:
            # One that was given up takes no late parts.
            parts = self.s3.uploads.get(query["uploadId"])
            if parts is None:
                self._answer(404, b"<Error><Code>NoSuchUpload</Code></Error>")
                return
            parts[int(query["partNumber"])] = body
        elif "x-amz-copy-source" in self.headers:
            source = unquote(self.headers["x-amz-copy-source"]).strip("/").removeprefix(f"{BUCKET}/")
            if source not in self.s3.objects:
                self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                return
            self.s3.objects[key] = self.s3.objects[source]
            self._answer(200, b"<CopyObjectResult><ETag>e</ETag></CopyObjectResult>")
            return
        else:
            self.s3.objects[key] = body
        self._answer(200)

    def do_POST(self) -> None:
        key, query, body = self._read()
        if "delete" in query:
            keys = _KEY.findall(body)
            for found in keys:
                self.s3.objects.pop(found.decode(), None)
            told = b"".join(b"<Deleted><Key>%b</Key></Deleted>" % found for found in keys)
            self._answer(200, b"<DeleteResult>%b</DeleteResult>" % told)
        elif "uploads" in query:
            upload_id = uuid4().hex
            self.s3.uploads[upload_id] = {}
            begun = f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId>"
            self._answer(200, f"{begun}</InitiateMultipartUploadResult>".encode())
        else:
            parts = [part for _, part in sorted(self.s3.uploads.pop(query["uploadId"]).items())]
            if any(len(part) < MIN_PART_BYTES for part in parts[:-1]):
                self._answer(400, b"<Error><Code>EntityTooSmall</Code></Error>")
                return
            self.s3.objects[key] = b"".join(parts)
            done = b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
            self._answer(200, done)

    def do_GET(self) -> None:
        key, query, _ = self._read()
        if "list-type" in query:
            self._answer(200, self._list(query.get("prefix", "")))
        elif key in self.s3.objects:
            self._answer(200, self.s3.objects[key])
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        key, query, _ = self._read()
        if "uploadId" in query:
            self.s3.uploads.pop(query["uploadId"], None)
        else:
            self.s3.objects.pop(key, None)
        self._answer(204)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _read(self) -> tuple[str, dict[str, str], bytes]:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        return unquote(parts.path).removeprefix(f"/{BUCKET}").strip("/"), query, body

    def _list(self, prefix: str) -> bytes:
        found = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(data)}</Size><ETag>e</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key, data in self.s3.objects.items()
            if key.startswith(prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(self.s3.status or status)
        self.send_header("ETag", f'"{sha256(body).hexdigest()}"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """S3 with one empty bucket, named by the environment."""
    s3 = S3()
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    s3.start()
    yield s3
    s3.stop()
