"""From rows to a deployed model: services, claims and projection together, with a worker by hand."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from bus.memory import MemoryBus
from bus.messages import (
    GenerationSpec,
    GenerationWork,
    TrainingWork,
    UploadedSource,
    ValidationWork,
    WorkClaimed,
)
from bus.messages.work import Report
from bus.objects import ObjectStore
from server.auth.principal import Principal
from server.database import Database
from server.datasets import CreateDatasetRequest
from server.generations import GenerateRequest
from server.lane_rows import TRAINING
from server.records import JobState
from server.training_records import DatasetStatus
from tests.support.jobs import Replica
from tests.support.training_jobs import DatasetRow, LaneWorker, Reports, unusable_report, validated
from tests.support.training_rows import House, training
from tests.support.waiting import until_true


@pytest.fixture
async def replica(database: Database, bus: MemoryBus, objects: ObjectStore) -> AsyncIterator[Replica]:
    """The other half of the server: claims are answered and reports are counted."""
    replica = Replica(database, bus, objects)
    await replica.start()
    await replica.projection.start()
    yield replica
    await replica.close()


@pytest.fixture
def worker(replica: Replica, bus: MemoryBus, objects: ObjectStore) -> LaneWorker:
    """A train worker."""
    return LaneWorker(bus, objects)


async def _job_of(house: House, dataset_id: UUID) -> DatasetRow:
    row = await house.db.fetch_one("SELECT job_id FROM datasets WHERE id = {}", dataset_id)
    assert row is not None
    return DatasetRow(dataset_id, row["job_id"])


async def _report(house: House, worker: LaneWorker, *reports: Report) -> None:
    """Report, and wait until it is counted."""
    await worker.publish(*reports)
    last = reports[-1]

    async def is_counted() -> bool:
        row = await house.db.fetch_one(
            "SELECT last_number FROM lane_jobs WHERE job_id = {}::uuid", last.job_id
        )
        return row is not None and row["last_number"] >= last.number

    await until_true(is_counted)


async def _claim(worker: LaneWorker, job_id: UUID) -> WorkClaimed:
    """Claim a job that is passed over for as long as the projection has its row in hand."""
    claimed: list[WorkClaimed] = []

    async def is_claimed() -> bool:
        answer = await worker.ask(job_id)
        if isinstance(answer, WorkClaimed):
            claimed.append(answer)
        return bool(claimed)

    await until_true(is_claimed)
    return claimed[0]


def _training_work(claimed: WorkClaimed) -> TrainingWork:
    assert isinstance(claimed.work, TrainingWork)
    return claimed.work


async def test_rows_become_a_model_that_is_deployed_and_generates(
    house: House, principal: Principal, worker: LaneWorker
) -> None:
    file = await house.upload(principal)
    dataset = await house.datasets.create(principal, CreateDatasetRequest(name="a", file_id=file.id))
    job = await house.jobs.start(
        principal, training(dataset.id, max_steps=100, parameters={"conditional": True})
    )
    looked_at = await _job_of(house, dataset.id)

    looking = await worker.claim(looked_at.job_id, "data")
    assert isinstance(looking.work, ValidationWork)
    assert isinstance(looking.work.source, UploadedSource)
    assert file.object_key == looking.work.source.object_key
    await _report(house, worker, validated(looked_at))
    assert DatasetStatus.READY == (await house.datasets.get(principal.user_id, dataset.id)).status
    assert 1 == len(await house.published(job.id))

    first = await worker.claim(job.id)
    reports = Reports.of(first)
    await _report(house, worker, reports.progress(1), reports.checkpoint(2), reports.failed(3))
    failed = await house.jobs.get(principal.user_id, job.id)
    assert (JobState.FAILED, 1, {"loss": 1.0}) == (failed.state, failed.step, failed.metrics)

    await house.jobs.resume(principal, job.id, max_steps=200)
    second = await worker.claim(job.id)
    work = _training_work(second)
    assert (2, 0, 200) == (second.attempt, second.num_lost, work.spec.max_steps)
    assert work.checkpoint is not None
    assert (2, job.seed) == (work.checkpoint.step, work.spec.seed)
    await _report(house, worker, Reports.of(second).model(1))

    ended = await house.jobs.get(principal.user_id, job.id)
    assert (JobState.SUCCEEDED, UUID(work.model_id)) == (ended.state, ended.model_id)
    model = await house.deployments.deploy(principal, UUID(work.model_id), "mine")
    assert model.pipeline is not None
    assert ("model/mine", 64) == (model.pipeline.name, model.pipeline.dimension)

    request = GenerateRequest(model_id=model.id, spec=GenerationSpec(count=2, label="dog"))
    made = await house.generations.create(principal, request)
    making = await worker.claim(made.id, "data")
    assert isinstance(making.work, GenerationWork)
    await _report(house, worker, Reports.of(making).made(1))
    done = await house.generations.get(principal.user_id, made.id)
    assert (JobState.SUCCEEDED, ["first-0001.png", "first-0002.png"]) == (
        done.state,
        [file.name for file in done.files],
    )


async def test_a_training_that_waits_for_a_bad_data_set_fails_with_its_first_issue(
    house: House, principal: Principal, worker: LaneWorker
) -> None:
    dataset = await house.dataset(principal)
    job = await house.train(principal, dataset)
    looked_at = await _job_of(house, dataset.id)
    await worker.claim(looked_at.job_id, "data")

    await _report(house, worker, unusable_report(looked_at, "There is no picture.", row=4))

    failed = await house.jobs.get(principal.user_id, job.id)
    assert (JobState.FAILED, "DATASET_INVALID") == (failed.state, failed.error_code)
    assert "Row 4: There is no picture." in (failed.error_message or "")
    record = await house.datasets.get(principal.user_id, dataset.id)
    assert (DatasetStatus.INVALID, 1) == (record.status, record.num_issues)


async def test_a_cancelled_training_that_is_resumed_is_nobody_elses(
    house: House, principal: Principal, replica: Replica, worker: LaneWorker
) -> None:
    """The worker of the attempt before reports on, and none of that counts."""
    job = await house.train(principal)
    first = await worker.claim(job.id)
    await replica.cancellations.cancel(principal, job.id, TRAINING)
    await _report(house, worker, Reports.of(first).progress(1), Reports.of(first).stopped(2))

    resumed = await house.jobs.resume(principal, job.id)
    assert JobState.QUEUED == resumed.state
    await worker.publish(Reports.of(first).progress(3))
    second = await _claim(worker, job.id)
    await worker.publish(Reports.of(first).progress(4))
    await _report(house, worker, Reports.of(second).progress(1), Reports.of(second).model(2))

    rows: list[dict[str, Any]] = await house.db.fetch(
        "SELECT seq, attempt FROM job_events WHERE job_id = {} ORDER BY seq", job.id
    )
    assert list(range(1, len(rows) + 1)) == [row["seq"] for row in rows]
    assert [0, 1, 1, 1, 1, 1, 2, 2, 2, 2] == [row["attempt"] for row in rows]


async def test_nobody_looks_on_at_a_data_set_that_was_deleted(
    house: House, principal: Principal, worker: LaneWorker
) -> None:
    waiting, looked_at = await house.dataset(principal), await house.dataset(principal)
    jobs = [await _job_of(house, one.id) for one in (waiting, looked_at)]
    await house.datasets.delete(principal, waiting.id)
    await worker.claim(jobs[1].job_id, "data")

    await house.datasets.delete(principal, looked_at.id)

    rows = await house.db.fetch(
        "SELECT state FROM jobs WHERE id = ANY({}::uuid[]) ORDER BY id", [job.job_id for job in jobs]
    )
    assert [JobState.CANCELLED, JobState.CANCELLING] == [row["state"] for row in rows]
