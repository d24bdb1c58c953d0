"""`towhee-api up` as a person runs it: real parts on a free port and a data folder of their own."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from tests.support.script import Script

READY_S = 90.0
STOP_S = 60.0

T = TypeVar("T")


def eventually(probe: Callable[[], T | None], *, within_s: float = 20.0) -> T:
    """Return the first true answer of ``probe``; fail after ``within_s``."""
    deadline = time.monotonic() + within_s
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"{probe} did not come true within {within_s:g} s"
        time.sleep(0.01)
    return answer


class RunningStack:
    """A supervisor and its children, seen from outside."""

    def __init__(self, process: subprocess.Popen[bytes], data_dir: Path, output: Path) -> None:
        self._process = process
        self._output = output
        self.data_dir = data_dir
        self.pid = process.pid

    @property
    def output(self) -> str:
        """What the supervisor has printed so far."""
        return self._output.read_text()

    @property
    def url(self) -> str:
        """Address of the server, out of the ready line; waits for it."""
        return eventually(self._find_url, within_s=READY_S)

    def _find_url(self) -> str | None:
        ready = [line for line in self.output.splitlines() if line.startswith("ready ")]
        assert ready or self._process.poll() is None, f"it ended: {self.output}"
        return ready[0].removeprefix("ready ") if ready else None

    @property
    def port(self) -> int:
        """Port of the server."""
        return int(self.url.rpartition(":")[2])

    def processes(self) -> list[psutil.Process]:
        """Every process of the stack but the supervisor."""
        return list(psutil.Process(self.pid).children(recursive=True))

    def find(self, words: str) -> list[int]:
        """Ids of the direct children whose command line contains ``words``."""
        found = []
        for child in psutil.Process(self.pid).children():
            try:
                if words in " ".join(child.cmdline()):
                    found.append(child.pid)
            except psutil.NoSuchProcess:
                continue
        return found

    def kill(self, words: str) -> list[int]:
        """Kill the children whose command line contains ``words`` with SIGKILL and return their ids."""
        killed = self.find(words)
        assert killed, f"no child is called {words}"
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        return killed

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Wait for the supervisor's end and return its exit code."""
        return self._process.wait(timeout=timeout_s)

    def stop(self) -> int:
        """Stop it as a service manager would and return its exit code."""
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()


@contextmanager
def running_stack(
    script: Script,
    data_dir: Path,
    *,
    options: Sequence[str] = ("--port", "0"),
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
) -> Iterator[RunningStack]:
    """Run `towhee-api up` for the length of the block.

    Args:
        script: the console script.
        data_dir: its data folder.
        options: further options.
        env: added to a bare environment.
        before: put before the command line, e.g. to run it as somebody else.
    """
    output = data_dir.with_name(data_dir.name + ".out")
    environ = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **(env or {})}
    with (
        output.open("wb") as sink,
        subprocess.Popen(
            [*before, *script.argv, "up", "--data-dir", str(data_dir), *options],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        stack = RunningStack(process, data_dir, output)
        try:
            yield stack
        finally:
            try:
                stack.stop()
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="session")
def stack(towhee_api: Script, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One real stack for all journeys, ready when it is given out."""
    with running_stack(towhee_api, tmp_path_factory.mktemp("stack") / "data") as running:
        assert running.url
        yield running
