"""A process that may die of its input, and only of its own."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.processes import is_running, until
from tests.support.stack import eventually
from tests.workers.conftest import MAX_PIXELS
from tests.workers.poison import DEADLY, EXIT_CODE, SLOW
from workers.embed.hosting import Pipeline
from workers.embed.items import (
    BytesSource,
    Embedded,
    EmbedRequest,
    Expired,
    Lane,
    PipelineNotHosted,
    Prepared,
    TextSource,
)
from workers.embed.sacrifice.engine import Died, NotStarted, SacrificialEngine
from workers.embed.worker import _LOADER

LOADER = "tests.workers.poison:load"
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def alone() -> AsyncIterator[SacrificialEngine]:
    engine = SacrificialEngine(LOADER)
    yield engine
    await engine.close()


async def _embed(engine: SacrificialEngine, *texts: str, deadline: float | None = None) -> Embedded:
    sources = [TextSource(text) for text in texts]
    return await engine.embed(
        EmbedRequest(pipeline="toy", sources=[*sources], lane=Lane.BULK, deadline=deadline)
    )


def _pid(engine: SacrificialEngine) -> int:
    assert engine._child is not None
    return engine._child._process.pid


async def test_inputs_are_embedded_one_by_one_and_refused_ones_do_no_harm(alone: SacrificialEngine) -> None:
    async def read() -> bytes:
        return b"bytes"

    request = EmbedRequest(
        pipeline="toy",
        sources=[TextSource("one"), TextSource("?"), BytesSource("text/plain", read)],
        lane=Lane.BULK,
    )

    embedded = await alone.embed(request)

    assert [[3.0, ord("o"), 1], [0, 0, 0], [16.0, ord("t"), 1]] == embedded.vectors.tolist()
    assert {1: ("INVALID_INPUT", "no questions")} == {
        index: (refusal.code, refusal.message) for index, refusal in embedded.refusals.items()
    }
    assert [3, 0, 16] == embedded.tokens
    assert embedded.compute_s[0] > 0


async def test_a_deadly_input_is_named_and_the_next_request_gets_a_new_process(
    alone: SacrificialEngine,
) -> None:
    with pytest.raises(Died) as died:
        await _embed(alone, "good", DEADLY, "good")

    assert (1, f"ended with code {EXIT_CODE}") == (died.value.index, died.value.how)
    assert [[4.0, ord("g"), 1]] == (await _embed(alone, "good")).vectors.tolist()


async def test_a_process_that_is_killed_is_no_different(alone: SacrificialEngine) -> None:
    await _embed(alone, "good")
    pid = _pid(alone)
    os.kill(pid, signal.SIGSTOP)
    asking = asyncio.create_task(_embed(alone, "good"))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)

    with pytest.raises(Died, match="was ended by signal 9"):
        await asking


async def test_a_cancelled_request_takes_the_process_along(alone: SacrificialEngine) -> None:
    await _embed(alone, "good")
    pid = _pid(alone)
    asking = asyncio.create_task(_embed(alone, SLOW))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    await until(lambda: not is_running(pid))
    assert 1 == (await _embed(alone, "x")).tokens[0]


async def test_the_process_has_no_address_and_no_credential(
    alone: SacrificialEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ("DATABASE_URL", "NATS_URL", "TOWHEE_API_NATS_CREDENTIALS", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN")
    for name in secrets:
        monkeypatch.setenv(name, "a secret")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")

    await _embed(alone, "good")

    file = Path(f"/proc/{_pid(alone)}/environ")
    environ = file.read_bytes().decode().split("\0")  # noqa: ASYNC240 - the kernel has it in memory
    assert "a secret" not in "".join(environ)
    assert {"OMP_WAIT_POLICY=PASSIVE", f"PATH={os.environ['PATH']}"} <= set(environ)


async def test_what_is_not_its_inputs_fault_is_told_apart(alone: SacrificialEngine) -> None:
    broken = SacrificialEngine(LOADER, {"broken": 1})
    with pytest.raises(NotStarted, match="ended with code 1"):
        await _embed(broken, "good")
    with pytest.raises(PipelineNotHosted):
        await alone.embed(EmbedRequest(pipeline="none", sources=[TextSource("a")], lane=Lane.BULK))
    with pytest.raises(Expired):
        await _embed(alone, "good", deadline=time.monotonic() - 1)


def test_the_process_ends_with_its_worker_however_that_ends() -> None:
    program = (
        "import asyncio, sys\n"
        "from tests.workers.test_sacrifice import LOADER, SacrificialEngine, _embed, _pid\n"
        "from tests.workers.poison import ENDLESS\n"
        "async def main():\n"
        "    engine = SacrificialEngine(LOADER)\n"
        "    await _embed(engine, 'good')\n"
        "    print(_pid(engine), flush=True)\n"
        "    await _embed(engine, ENDLESS)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        assert is_running(pid)
        worker.kill()

    assert eventually(lambda: not is_running(pid), within_s=10)


async def test_a_real_pipeline_gives_the_same_vector_alone(pipelines: dict[str, Pipeline]) -> None:
    name, text = "text-embedding-minilm", "A lion lies in the grass."
    engine = SacrificialEngine(_LOADER, {"max_pixels": MAX_PIXELS})

    request = EmbedRequest(pipeline=name, sources=[TextSource(text)], lane=Lane.BULK)
    alone = (await engine.embed(request)).vectors
    await engine.close()

    (prepared,) = pipelines[name].prepare_texts([text])
    assert isinstance(prepared, Prepared)
    assert (alone * pipelines[name].run([prepared.payload])).sum() > 0.99999
