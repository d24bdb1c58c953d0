"""A worker process: settings, threads, signals, exit codes."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADDRESSES = {"NATS_URL": "nats://127.0.0.1:1", "OBJECT_STORE_URL": "file:///nonexistent"}

#: A worker that says what it runs on and how many threads torch has, and works until it is told to stop.
WORKER = """
import asyncio, os, sys
from workers.process import ReadyFile, WorkerFailed, WorkerSettings, run_worker

async def serve(settings, stop):
    assert "torch" not in sys.modules
    import torch
    print(type(asyncio.get_running_loop()).__module__)
    print(torch.get_num_threads(), os.environ["OMP_WAIT_POLICY"], os.environ["TOKENIZERS_PARALLELISM"])
    if settings.worker_pool == "broken":
        raise WorkerFailed("the device is gone")
    with ReadyFile(settings.worker_ready_file):
        print("serving", flush=True)
        await stop.wait()
    print("drained", flush=True)

sys.exit(run_worker(WorkerSettings, serve, os.environ))
"""


def start(code: str, environ: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_drains_on_a_signal_and_exits_0(number: signal.Signals, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = start(WORKER, {**ADDRESSES, "TOWHEE_API_WORKER_READY_FILE": str(ready)})
    assert process.stdout is not None
    assert "uvloop" == process.stdout.readline().strip()
    assert "1 PASSIVE false" == process.stdout.readline().strip()
    assert "serving" == process.stdout.readline().strip()
    assert ready.exists()

    process.send_signal(number)

    output, _ = process.communicate(timeout=30)
    assert (0, "drained\n", False) == (process.returncode, output, ready.exists())


def test_threads_are_set_before_torch_is_loaded() -> None:
    environ = {
        **ADDRESSES,
        "TOWHEE_API_WORKER_THREADS": "2",
        "TOWHEE_API_WORKER_WAIT_POLICY": "ACTIVE",
        "TOWHEE_API_WORKER_POOL": "broken",
    }
    output, _ = start(WORKER, environ).communicate(timeout=30)
    assert ["uvloop", "2 ACTIVE false"] == output.splitlines()


def test_a_worker_that_can_not_go_on_exits_1_with_one_line() -> None:
    process = start(WORKER, {**ADDRESSES, "TOWHEE_API_WORKER_POOL": "broken"})
    _, errors = process.communicate(timeout=30)
    assert 1 == process.returncode
    assert 1 == len(errors.splitlines())
    assert "the device is gone" in errors


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({}, "NATS_URL"),
        ({**ADDRESSES, "TOWHEE_API_WORKER_THREADS": "many"}, "TOWHEE_API_WORKER_THREADS"),
        ({**ADDRESSES, "TOWHEE_API_WORKER_POOL": "a.b"}, "TOWHEE_API_WORKER_POOL"),
        (
            {**ADDRESSES, "TOWHEE_API_WORKER_PIPELINES": "text-embedding-minilm,nope"},
            "TOWHEE_API_WORKER_PIPELINES",
        ),
    ],
)
def test_a_wrong_setting_exits_2_with_one_line_that_names_it(environ: dict[str, str], variable: str) -> None:
    process = start("import sys; from workers.embed.worker import main; sys.exit(main())", environ)
    _, errors = process.communicate(timeout=30)
    assert 2 == process.returncode
    assert [variable] == [line.split()[0] for line in errors.splitlines()]


def test_a_worker_that_gives_up_ends_at_once_whatever_its_threads_do() -> None:
    code = """
import threading
from workers.process import configure_logging, give_up
configure_logging("INFO")
threading.Thread(target=threading.Event().wait).start()
give_up("the device hangs")
"""
    process = start(code, {})
    _, errors = process.communicate(timeout=30)
    assert 1 == process.returncode
    assert "the device hangs" in errors
