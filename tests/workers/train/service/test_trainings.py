"""Trainings from the token to the model, whatever happens to workers and children on the way."""

import asyncio
import json
import os
import signal
from pathlib import Path

from bus import subjects
from bus.memory import MemoryBus
from bus.messages import (
    CancelJob,
    CheckpointSaved,
    ModelExported,
    SamplesGenerated,
    TrainingProgressed,
    WorkFailed,
    WorkStopped,
)
from bus.objects import ObjectStore
from bus.topology import WORK
from tests.support.lanes import LaneServer, OpenJob
from tests.support.waiting import until_true
from tests.workers.train.service.rig import Workers, child_pids, training, undisturbed_weights, weights

JOB = "job-1"


def numbers(job: OpenJob) -> list[int]:
    return [report.number for report in job.reports]


async def test_a_token_becomes_a_model(
    bus: MemoryBus, objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start()
    work = await training(objects, tmp_path)

    job = await server.open(JOB, work)
    exported = await server.wait_for(JOB, ModelExported)

    assert isinstance(exported, ModelExported)
    assert list(range(1, len(job.reports) + 1)) == numbers(job)
    progress = [report for report in job.reports if isinstance(report, TrainingProgressed)]
    assert (1, 60, 60) == (progress[0].step, progress[-1].step, progress[0].total_steps)
    assert {"epoch_loss", "eval_epoch_metric"} <= progress[-1].metrics.keys()
    # Sixty steps take some time, and hardly a minute.
    assert 0 < sum(report.compute_s for report in job.reports) < 60
    (sample,) = [report for report in job.reports if isinstance(report, SamplesGenerated)]
    assert (f"jobs/{JOB}/samples/1-{sample.number}.txt", "text/plain") == (
        sample.object_key,
        sample.media_type,
    )
    assert b"0 1 2" == await objects.get(sample.object_key)
    assert {"accuracy": 0.9} == exported.metrics
    names = ["encoder/manifest.json", "encoder/weights.bin", "net/manifest.json", "owner.json"]
    assert names == [file.name for file in exported.stored.files]
    owner = json.loads(await objects.get(f"models/{work.model_id}/owner.json"))
    assert {"owner_id": "owner-1", "model_id": work.model_id, "manifest_sha256": exported.sha256} == owner
    await until_true(lambda: _is_empty(bus))


async def test_a_killed_child_costs_nothing_but_time(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start()
    job = await server.open(JOB, await training(objects, tmp_path, "slow", max_steps=150))
    await server.wait_for(JOB, CheckpointSaved)
    (child,) = child_pids(os.getpid())
    os.kill(child, signal.SIGKILL)
    await until_true(lambda: _has_ended(child))
    server.lose(JOB)
    exported = await server.wait_for(JOB, ModelExported)

    assert 2 == job.attempt
    first = next(report for report in job.reports if isinstance(report, TrainingProgressed))
    assert first.step > 1
    assert isinstance(exported, ModelExported)
    expected = undisturbed_weights(tmp_path, "digits", max_steps=150)
    assert expected == await weights(objects, exported.stored)


async def test_a_cancelled_training_stops_within_a_second_and_can_be_resumed(
    bus: MemoryBus, objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start(checkpoint_every_s=1000.0, heartbeat_every_s=30.0)
    job = await server.open(JOB, await training(objects, tmp_path, "slow", max_steps=100_000))
    await server.wait_for(JOB, TrainingProgressed)

    began = asyncio.get_running_loop().time()
    await bus.tell(subjects.job_cancel(JOB), CancelJob(job_id=JOB))
    stopped = await server.wait_for(JOB, WorkStopped)

    assert asyncio.get_running_loop().time() - began < 1.0
    saved = next(report for report in job.reports if isinstance(report, CheckpointSaved))
    assert isinstance(stopped, WorkStopped)
    assert saved.checkpoint.step > 0
    assert await objects.exists(f"{saved.checkpoint.stored.prefix}/checkpoint.json")
    await until_true(lambda: _is_empty(bus))


async def test_a_cancellation_whose_broadcast_is_lost_is_heard_with_a_heartbeat(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start()
    await server.open(JOB, await training(objects, tmp_path, "slow", max_steps=100_000))
    await server.wait_for(JOB, TrainingProgressed)

    server.verdict = "cancel"

    await server.wait_for(JOB, WorkStopped)


async def test_a_worker_that_drains_hands_over_and_another_goes_on_exactly(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    first = await workers.start(checkpoint_every_s=1000.0)
    job = await server.open(JOB, await training(objects, tmp_path, "slow", max_steps=100))
    await server.wait_for(JOB, TrainingProgressed)
    server.num_later = 1

    await first.stop()

    assert JOB == server.let_go[-1].job_id
    assert len(server.let_go) >= 2
    assert job.checkpoint is not None
    assert job.checkpoint.step < 100
    await workers.start(name="worker-2")
    exported = await server.wait_for(JOB, ModelExported)
    assert 2 == job.attempt
    assert isinstance(exported, ModelExported)
    expected = undisturbed_weights(tmp_path, "digits", max_steps=100)
    assert expected == await weights(objects, exported.stored)


async def test_a_superseded_attempt_says_nothing_more(
    bus: MemoryBus, objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start()
    job = await server.open(JOB, await training(objects, tmp_path, "slow", max_steps=100_000))
    await server.wait_for(JOB, TrainingProgressed)
    (child,) = child_pids(os.getpid())

    server.verdict = "superseded"

    await until_true(lambda: _has_ended(child))
    await until_true(lambda: _is_empty(bus))
    assert not {WorkStopped, WorkFailed, CheckpointSaved} & {type(report) for report in job.reports[-1:]}


async def _is_empty(bus: MemoryBus) -> bool:
    return bus.count(WORK) == 0


async def _has_ended(pid: int) -> bool:
    return pid not in child_pids(os.getpid())
