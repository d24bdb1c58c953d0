"""Trainings that go wrong: what can't be done is said, what a process dies of is tried again."""

from pathlib import Path

from bus.memory import MemoryBus
from bus.messages import TrainingProgressed, TrainingWarned, WorkFailed
from bus.objects import ObjectStore
from bus.topology import WORK
from tests.support.lanes import LaneServer
from tests.support.waiting import until_true
from tests.workers.train.service.rig import Workers, training
from workers.train.service.watching import WatchSettings

JOB = "job-1"


async def test_what_can_not_be_trained_is_said_with_advice(
    bus: MemoryBus, objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start()
    await server.open(JOB, await training(objects, tmp_path, "refused"))
    failed = await server.wait_for(JOB, WorkFailed)
    assert isinstance(failed, WorkFailed)
    assert ("INVALID_INPUT", "the data don't fit", "take other data", 7) == (
        failed.code,
        failed.message,
        failed.advice,
        failed.row,
    )

    await server.open("job-2", await training(objects, tmp_path, "diverges"))
    failed = await server.wait_for("job-2", WorkFailed)
    assert isinstance(failed, WorkFailed)
    assert "INVALID_INPUT" == failed.code
    assert "in step 5" in failed.message
    assert "learning_rate" in failed.advice

    await until_true(lambda: _is_empty(bus))


async def test_a_training_that_takes_too_much_memory_fails_with_advice(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    limit = 1500 * 1024 * 1024
    await workers.start(watch=WatchSettings(silent_s=30.0, max_memory_bytes=limit, look_every_s=0.02))

    await server.open(JOB, await training(objects, tmp_path, "greedy slow", max_steps=1000))

    failed = await server.wait_for(JOB, WorkFailed)
    assert isinstance(failed, WorkFailed)
    assert ("QUOTA_EXCEEDED", True) == (failed.code, "batch_size" in failed.advice)


async def test_a_training_that_makes_no_step_is_ended_and_begun_again(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start(watch=WatchSettings(silent_s=1.0, look_every_s=0.05))
    job = await server.open(JOB, await training(objects, tmp_path, "stuck"))
    await server.wait_for(JOB, TrainingProgressed)

    server.lose(JOB)

    await until_true(lambda: _attempt_is(server, 2), within_s=60.0)
    assert not any(isinstance(report, WorkFailed) for report in job.reports)


async def test_a_job_that_three_processes_have_died_of_is_given_up(
    bus: MemoryBus, objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    await workers.start()
    job = await server.open(JOB, await training(objects, tmp_path, "dies"), num_lost=2)
    await until_true(lambda: _token_came_back(bus, server), within_s=60.0)

    server.lose(JOB)

    failed = await server.wait_for(JOB, WorkFailed)
    assert isinstance(failed, WorkFailed)
    assert ("INTERNAL", 2) == (failed.code, job.attempt)
    assert "has ended 3 processes" in failed.message
    assert failed.advice


async def test_a_checkpoint_that_can_not_be_read_means_to_begin_again(
    objects: ObjectStore, server: LaneServer, workers: Workers, tmp_path: Path
) -> None:
    worker = await workers.start()
    job = await server.open(JOB, await training(objects, tmp_path, "slow", max_steps=100_000))
    await server.wait_for(JOB, TrainingProgressed)
    await worker.stop()
    assert job.checkpoint is not None
    await objects.put(f"{job.checkpoint.stored.prefix}/model.safetensors", b"something else")

    await workers.start(name="worker-2")
    warned = await server.wait_for(JOB, TrainingWarned)

    assert isinstance(warned, TrainingWarned)
    assert "checkpoint_lost" == warned.code
    progress = await server.wait_for(JOB, TrainingProgressed)
    assert isinstance(progress, TrainingProgressed)
    assert 1 == progress.step


async def _is_empty(bus: MemoryBus) -> bool:
    return bus.count(WORK) == 0


async def _attempt_is(server: LaneServer, attempt: int) -> bool:
    return server.jobs[JOB].attempt == attempt


async def _token_came_back(bus: MemoryBus, server: LaneServer) -> bool:
    """Once delivered, and again after that: the second claim finds nothing that waits."""
    return bus.count(WORK) == 1 and len(server.claims) > 1
