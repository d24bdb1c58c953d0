"""A console script whose server and worker are small: `up` and all it starts from wheels is the real thing.

Every start and end of a part adds a line to the file JOURNAL. Tests run a copy of it
under the name of the real one.
"""

import http.server
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType


def note(line: str) -> None:
    """Add a line to the journal."""
    with Path(os.environ["JOURNAL"]).open("a") as journal:
        journal.write(line + "\n")


class Answers(http.server.BaseHTTPRequestHandler):
    """Ready at once; a request for /slow is answered when the server has been asked to stop."""

    def do_GET(self) -> None:
        """Answer."""
        if self.path == "/slow":
            note("slow request began")
            stopping.wait()
        body = b'{"database": "ok"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


stopping = threading.Event()


def serve() -> None:
    """Run a server that finishes its requests before it leaves."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["TOWHEE_API_PORT"])), Answers)
    server.daemon_threads = False
    stop_on_signal()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stopping.wait()
    server.shutdown()
    server.server_close()


def work() -> None:
    """Wait to be stopped, or ignore that if told so."""
    stop_on_signal()
    if "STUBBORN" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stopping.wait()


def stop_on_signal() -> None:
    """End with SIGTERM, like the real ones."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)


def main() -> None:
    """Be what the first argument says."""
    if sys.argv[1] not in {"serve", "work"}:
        sys.path.insert(0, os.environ["CHECKOUT"])
        from deploy.cli import main as real_main  # noqa: PLC0415 - the small parts need nothing of it

        sys.exit(real_main())
    name = sys.argv[1]
    note(f"{name} started")
    if name == "serve":
        if "REFUSE" in os.environ:
            sys.stderr.write("towhee-api: TOWHEE_API_X must be a number\n")
            sys.exit(2)
        serve()
    elif sys.argv[2] == "train" and "REFUSE_TRAINING" in os.environ:
        sys.stderr.write("towhee-api: TOWHEE_API_TRAIN_X must be a number\n")
        sys.exit(2)
    else:
        work()
    note(f"{name} ended")


main()
