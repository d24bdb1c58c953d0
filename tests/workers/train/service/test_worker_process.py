"""The real process, `towhee-api work train`, on a real nats-server: no torch, no orphan, no secret out."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus.client import NatsBus
from bus.messages import ModelExported, TrainingProgressed
from bus.objects import ObjectStore
from bus.topology import Limits, Topology, apply
from tests.support.lanes import LaneServer
from tests.support.processes import command_line, is_running, until
from tests.support.script import Script
from tests.support.waiting import until_true
from tests.workers.train.service.processes import SECRET, running_worker, stand_in_script
from tests.workers.train.service.rig import child_pids, training, undisturbed_weights, weights
from workers.train.service.proc import family

ROOT = Path(__file__).parents[4]
#: Loading torch takes seconds, more on a busy machine.
START_S = 90.0
JOB = "job-1"


@pytest.fixture
async def nats(empty_nats_url: str) -> AsyncIterator[NatsBus]:
    # A short ack wait: what a killed worker held comes back after 3 s instead of 12.
    await apply(empty_nats_url, Topology.for_pools(["default"], limits=Limits(ack_wait_s=3.0)))
    bus = await NatsBus.connect(empty_nats_url, name="test")
    yield bus
    await bus.close()


@pytest.fixture
async def lanes(nats: NatsBus) -> AsyncIterator[LaneServer]:
    server = LaneServer(nats)
    await server.start()
    yield server
    await server.close()


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return stand_in_script(tmp_path)


async def test_a_worker_hands_over_on_sigterm_and_a_killed_one_leaves_no_orphan(
    lanes: LaneServer, objects: ObjectStore, script: Script, empty_nats_url: str, tmp_path: Path
) -> None:
    job = await lanes.open(JOB, await training(objects, tmp_path, "slow", max_steps=300))
    with running_worker(script, empty_nats_url, tmp_path) as worker:
        await lanes.wait_for(JOB, TrainingProgressed, within_s=START_S)
        assert ["work", "train"] == command_line(worker.pid)[-2:]
        (child,) = child_pids(worker.pid)
        environ = environment(child)
        assert SECRET not in environ
        assert empty_nats_url not in environ

        worker.send_signal(signal.SIGTERM)

        # 3 is one that has loaded torch itself.
        assert 0 == await asyncio.to_thread(worker.wait, 30)
        assert not is_running(child)
        assert [JOB] == [let_go.job_id for let_go in lanes.let_go[-1:]]
        assert lanes.announcements[-1].leaving
        assert ["digits"] == lanes.announcements[-1].samples
    assert [] == folders(tmp_path)
    handed_over_at = job.checkpoint
    assert handed_over_at is not None

    with running_worker(script, empty_nats_url, tmp_path) as worker:

        async def has_gone_on() -> bool:
            return job.attempt == 2 and job.checkpoint != handed_over_at

        await until_true(has_gone_on, within_s=START_S)
        (child,) = child_pids(worker.pid)
        worker.kill()
        worker.wait()
        await until(lambda: not is_running(child))
    lanes.lose(JOB)

    with running_worker(script, empty_nats_url, tmp_path):
        exported = await lanes.wait_for(JOB, ModelExported, within_s=START_S)
        # What the killed one had left is gone.
        assert 1 == len(folders(tmp_path))

    assert 3 == job.attempt
    assert isinstance(exported, ModelExported)
    expected = undisturbed_weights(tmp_path, "digits", max_steps=300)
    assert expected == await weights(objects, exported.stored)


async def test_a_killed_worker_takes_all_processes_of_a_training_with_it(
    lanes: LaneServer, objects: ObjectStore, script: Script, empty_nats_url: str, tmp_path: Path
) -> None:
    await lanes.open(JOB, await training(objects, tmp_path, "slow", max_steps=100_000))
    with running_worker(script, empty_nats_url, tmp_path, processes="2") as worker:
        await lanes.wait_for(JOB, TrainingProgressed, within_s=START_S)
        assert "2 x cpu" == lanes.announcements[-1].device
        (child,) = child_pids(worker.pid)
        processes = family(child)
        assert 3 == len(processes), "torchrun, and the two that train"

        worker.kill()

        await until(lambda: not any(map(is_running, processes)))


def environment(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


def folders(below: Path) -> list[Path]:
    return list(below.glob("towhee-train-*"))


def test_the_supervisor_loads_no_torch() -> None:
    code = (
        "import sys, workers.train.service.worker;"
        "sys.exit(bool({'torch', 'numpy', 'towhee', 'pyarrow'} & set(sys.modules)))"
    )

    assert 0 == subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode
