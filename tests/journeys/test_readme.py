"""Every command in the README, run in its order, as a newcomer would."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nats
import numpy as np
import pytest

from bus import subjects
from bus.client import NatsBus
from deploy.local.folder import DataFolder
from tests.support.script import Script
from tests.support.stack import RunningStack, eventually

ROOT = Path(__file__).parents[2]
TRAINING = "## Train your first model in five minutes"
BLOCK = re.compile(r"^```(?P<language>bash|python)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
README_URL = "http://127.0.0.1:8000"
COMMAND_S = 120.0
#: What the heading promises.
TRAINING_S = 300.0


def _blocks(language: str, *, of_training: bool = False) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, heading, rest = text.partition(TRAINING)
    training, next_heading, after = rest.partition("\n## ")
    assert heading
    assert next_heading
    found = BLOCK.finditer(training if of_training else before + after)
    return [match["code"] for match in found if match["language"] == language]


def _shell_blocks() -> list[str]:
    return [block for block in _blocks("bash") if not block.startswith("make ")]


def _typed(script: str, stack: RunningStack, towhee_api: Script, desk: Path, within_s: float) -> str:
    """Type commands into a shell, and return what it says."""
    folders = [str(towhee_api.path.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=desk,
        env={
            "PATH": ":".join(folders),
            "HOME": str(desk),
            "TOWHEE_API_DATA_DIR": str(stack.data_dir),
            # A newcomer has the default port.
            "TOWHEE_API_SERVER": stack.url,
        },
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    assert 0 == done.returncode, done.stderr + done.stdout
    return done.stdout


@pytest.fixture
def desk(tmp_path: Path, photos: dict[str, Path]) -> Path:
    """A folder to type in, with a photo."""
    shutil.copy(photos["lion"], tmp_path / "photo.jpg")
    return tmp_path


async def _give_up_two(stack: RunningStack) -> list[int]:
    """Send the worker two messages that are none, and return the ids of the dead letters."""
    url = DataFolder(stack.data_dir).read_endpoints()["NATS_URL"]
    stranger, bus = await nats.connect(url), await NatsBus.connect(url, name="test")
    try:
        for _ in range(2):
            await stranger.jetstream().publish(subjects.embed_job("default", "1"), b"no message")
        async with asyncio.timeout(30):
            while len(letters := await bus.dead_letters.read()) < 2:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
        return [letter.id for letter in letters[-2:]]
    finally:
        await bus.close()
        await stranger.close()


def test_what_is_typed_in_the_readme_works(stack: RunningStack, towhee_api: Script, desk: Path) -> None:
    retried, dropped = asyncio.run(_give_up_two(stack))
    # One shell for all blocks: later ones use what earlier ones have set.
    script = "\n".join(_shell_blocks()).replace(README_URL, stack.url)
    script = script.replace("jobs retry 1", f"jobs retry {retried}").replace(
        "jobs drop 2", f"jobs drop {dropped}"
    )

    said = _typed(script, stack, towhee_api, desk, COMMAND_S)

    assert '"embedding"' in said
    assert '"dimension":1280' in said.replace(" ", "")
    assert "SUCCEEDED" in said
    assert '"state":"CANCELL' in said or "JOB_FINISHED" in said
    assert f"{dropped}  2" in said
    assert 2 == said.count(subjects.embed_job("default", "1") + "\n")
    assert (3, 384) == np.load(desk / "vectors.npy").shape
    _run_python(stack, desk)
    _train(stack, towhee_api, desk)


def _train(stack: RunningStack, towhee_api: Script, desk: Path) -> None:
    began = time.monotonic()
    said = _typed("\n".join(_blocks("bash", of_training=True)), stack, towhee_api, desk, TRAINING_S)
    sys.stdout.write(f"\nthe first model of the README took {time.monotonic() - began:.0f} s\n")

    assert "deployed as model/messages, version 1" in said
    assert (1, 384) == np.load(desk / "question.npy").shape


def _run_python(stack: RunningStack, desk: Path) -> None:
    for block in _blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", block.replace(README_URL, stack.url)],
            cwd=desk,
            env={"PATH": os.environ["PATH"], "HOME": str(desk)},
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        assert "text-embedding-minilm [384, 384]" in done.stdout


@pytest.fixture
def make_up(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`make up` in this checkout, in its own process group, on a free port and a data folder of its own."""
    with subprocess.Popen(
        ["make", "up", f"ARGS=--port 0 --workers 2 --data-dir {tmp_path / 'data'}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_make_up_says_ready_and_stops_on_ctrl_c(make_up: subprocess.Popen[str]) -> None:
    assert ["make up\n"] == [block for block in _blocks("bash") if block.startswith("make ")][:1]
    assert make_up.stdout is not None
    lines = []
    for line in make_up.stdout:
        lines.append(line)
        if line.startswith("ready http://127.0.0.1:"):
            break

    # The terminal sends Ctrl-C to the whole group.
    os.killpg(make_up.pid, signal.SIGINT)
    lines += list(make_up.stdout)

    assert any(line.startswith("ready ") for line in lines), "".join(lines)
    assert eventually(lambda: make_up.poll() is not None, within_s=60)
