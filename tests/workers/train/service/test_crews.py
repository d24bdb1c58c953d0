"""Trainings of several processes: one training to whoever looks, and none of them left when one is gone."""

import asyncio
import os
import signal
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from bus import subjects
from bus.memory import MemoryBus
from bus.messages import (
    CancelJob,
    CheckpointSaved,
    DatasetValidated,
    ModelExported,
    SamplesGenerated,
    SampleSource,
    TrainingProgressed,
    ValidationWork,
    WorkFailed,
    WorkStopped,
)
from bus.objects import ObjectStore
from tests.support.lanes import LaneServer, OpenJob
from tests.support.processes import is_running, until
from tests.workers.train.service.rig import Workers, child_pids, training, weights
from workers.train.service.proc import family

JOB = "job-1"


def device_of(job: OpenJob) -> str:
    return next(report.device for report in job.reports if isinstance(report, TrainingProgressed))


def crew() -> list[int]:
    """The processes that train, the first one first; without the one that keeps them together."""
    (torchrun,) = child_pids(os.getpid())
    return sorted(family(torchrun)[1:], key=_rank)


def _rank(pid: int) -> int:
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next(int(entry.partition(b"=")[2]) for entry in environ if entry.startswith(b"LOCAL_RANK="))


async def train_on(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path, **options: float
) -> OpenJob:
    """Have two processes train, for as long as the test takes."""
    await workers.start(processes=2, **options)
    job = await server.open(JOB, await training(objects, tmp_path, "slow", max_steps=100_000))
    await server.wait_for(JOB, TrainingProgressed)
    return job


async def test_two_processes_share_each_batch_and_make_one_model(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start(processes=2)

    job = await server.open(JOB, await training(objects, tmp_path))
    exported = await server.wait_for(JOB, ModelExported)

    assert isinstance(exported, ModelExported)
    assert "2 x cpu" == device_of(job)
    assert list(range(1, len(job.reports) + 1)) == [report.number for report in job.reports]
    progress = [report for report in job.reports if isinstance(report, TrainingProgressed)]
    assert (1, 60, 60) == (progress[0].step, progress[-1].step, progress[0].total_steps)
    # One of them tells, and its losses are of its half of 1,200 rows.
    assert 1 == sum(isinstance(report, SamplesGenerated) for report in job.reports)
    assert progress[-1].epoch == 2


async def test_whichever_process_is_killed_the_rest_goes_with_it_and_the_end_is_the_same(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start(processes=2, checkpoint_every_s=0.1)
    await server.open("whole", await training(objects, tmp_path, "whole", max_steps=100))
    whole = await server.wait_for("whole", ModelExported)
    assert isinstance(whole, ModelExported)

    for rank in range(2):
        name = f"killed-{rank}"
        job = await server.open(name, await training(objects, tmp_path, f"slow {rank}", max_steps=100))
        await server.wait_for(name, CheckpointSaved)
        pids = crew()
        os.kill(pids[rank], signal.SIGKILL)
        await until(lambda: not any(map(is_running, pids)))  # noqa: B023  awaited here
        server.lose(name)
        exported = await server.wait_for(name, ModelExported)

        assert (2, 2) == (len(pids), job.attempt)
        assert next(report.step for report in job.reports if isinstance(report, TrainingProgressed)) > 1
        assert isinstance(exported, ModelExported)
        assert await weights(objects, whole.stored) == await weights(objects, exported.stored)


async def test_a_cancelled_training_stops_within_a_second_with_a_checkpoint_of_all(
    bus: MemoryBus, objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    options = {"checkpoint_every_s": 1000.0, "heartbeat_every_s": 30.0}
    job = await train_on(objects, server, workers, tmp_path, **options)
    pids = crew()

    began = asyncio.get_running_loop().time()
    await bus.tell(subjects.job_cancel(JOB), CancelJob(job_id=JOB))
    await server.wait_for(JOB, WorkStopped)

    assert asyncio.get_running_loop().time() - began < 1.0
    assert any(isinstance(report, CheckpointSaved) for report in job.reports)
    await until(lambda: not any(map(is_running, pids)))


async def test_a_loss_that_is_no_number_in_one_process_ends_the_training_with_advice(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start(processes=2)

    await server.open(JOB, await training(objects, tmp_path, "unwell"))

    failed = await server.wait_for(JOB, WorkFailed)
    assert isinstance(failed, WorkFailed)
    assert "INVALID_INPUT" == failed.code
    assert "diverged" in failed.message
    assert "learning_rate" in failed.advice


async def test_a_batch_that_can_not_be_shared_is_one_process_s(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start(processes=2)

    job = await server.open(JOB, await training(objects, tmp_path, batch_size=15))
    await server.wait_for(JOB, ModelExported)

    assert "cpu" == device_of(job)


async def test_data_sets_are_looked_at_beside_a_crew(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await train_on(objects, server, workers, tmp_path)

    sample = ValidationWork(dataset_id="dataset-2", name="digits", source=SampleSource(name="digits"))
    await server.open("job-2", sample)

    await server.wait_for("job-2", DatasetValidated)


async def test_a_crew_listens_on_loopback_only(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await train_on(objects, server, workers, tmp_path)
    (torchrun,) = child_pids(os.getpid())

    addresses = [address for pid in family(torchrun) for address in listening(pid)]

    # They do speak to each other.
    assert addresses
    assert all(ip_address(address).is_loopback for address in addresses)


def listening(pid: int) -> Iterator[str]:
    """The addresses on which a process listens (Linux: proc_pid_net)."""
    own = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                raw = bytes.fromhex(fields[1].partition(":")[0])
                words = [raw[at : at + 4][::-1] for at in range(0, len(raw), 4)]
                yield str(ip_address(b"".join(words)))
