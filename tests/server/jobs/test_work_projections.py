"""What workers of the lanes report becomes history, data sets, models and files, exactly once."""

import asyncio
import math
import random
from typing import Any
from uuid import UUID

import msgspec
import pytest

from bus.memory import MemoryBus
from bus.messages import (
    AutoencoderParameters,
    Checkpoint,
    GanParameters,
    JobAttemptFailed,
    SemiSupervisedParameters,
    StoredFiles,
    TrainerParameters,
    TrainModel,
)
from bus.messages.work import Report
from bus.objects import ObjectStore
from bus.topology import JOB_EVENTS, train_lane
from server.auth.principal import Principal
from server.database import Database
from server.dataset_facts import dataset_record
from server.ids import model_id_of, new_id
from server.lane_rows import DATASET
from server.records import JobState, UsageRecord
from server.training_records import DatasetRecord, DatasetStatus
from tests.support.jobs import Replica, Worker
from tests.support.training_jobs import (
    DatasetRow,
    LaneWorker,
    Reports,
    add_dataset,
    add_generation,
    add_training,
    states,
    trainer_of,
    unusable_report,
    validated,
)
from tests.support.waiting import until_true


@pytest.fixture
def trainer(bus: MemoryBus, objects: ObjectStore) -> LaneWorker:
    """A train worker."""
    return LaneWorker(bus, objects)


@pytest.fixture
async def dataset(replica: Replica, owner: Principal) -> DatasetRow:
    """A data set that can be trained on."""
    return await add_dataset(replica.db, owner, is_ready=True)


async def _history(db: Database, job_id: UUID) -> list[tuple[int, str]]:
    rows = await db.fetch("SELECT seq, kind FROM job_events WHERE job_id = {} ORDER BY seq", job_id)
    return [(row["seq"], row["kind"]) for row in rows]


async def _job(db: Database, job_id: UUID) -> dict[str, Any]:
    [row] = await db.fetch(
        "SELECT * FROM jobs JOIN lane_jobs ON lane_jobs.job_id = jobs.id"
        " LEFT JOIN training_jobs USING (job_id) WHERE jobs.id = {}",
        job_id,
    )
    return row


async def _dataset(db: Database, dataset: DatasetRow) -> DatasetRecord:
    [row] = await db.fetch("SELECT * FROM datasets WHERE id = {}", dataset.id)
    return dataset_record(row)


def _whole(reports: Reports) -> list[Report]:
    """All reports of a training that goes well."""
    return [
        reports.progress(1),
        reports.picture(2),
        reports.checkpoint(3),
        reports.warning(4),
        *(reports.progress(number) for number in range(5, 40)),
        reports.model(40),
    ]


async def test_reports_become_history_a_training_and_a_model(
    replica: Replica, trainer: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    job_id = await add_training(replica.db, owner, dataset)
    reports = Reports.of(await trainer.claim(job_id))
    await trainer.publish(*_whole(reports)[:39])
    await replica.projection.step()

    row = await _job(replica.db, job_id)
    assert ("RUNNING", 39, 100, 61.0, "cpu", 39) == (
        row["state"],
        row["step"],
        row["total_steps"],
        row["eta_s"],
        row["device"],
        row["last_number"],
    )
    assert {"loss": 1 / 39} == msgspec.msgpack.decode(row["metrics"])
    assert reports.checkpoint(3).checkpoint == msgspec.msgpack.decode(row["checkpoint"], type=Checkpoint)

    await trainer.publish(reports.model(40))
    await replica.projection.step()

    row = await _job(replica.db, job_id)
    assert ("SUCCEEDED", None, 39) == (row["state"], row["eta_s"], row["step"])
    assert row["finished_at"] is not None
    [model] = await replica.db.fetch("SELECT * FROM models")
    assert (model_id_of(job_id, 1), owner.user_id, job_id, "my model", "GAN", dataset.id, None) == (
        model["id"],
        model["user_id"],
        model["job_id"],
        model["name"],
        model["trainer"],
        model["dataset_id"],
        model["parent_id"],
    )
    assert ("IMAGE", 64, "images", {"fid": 12.5}, reports.model(40).stored) == (
        model["modality"],
        model["dimension"],
        model["generates"],
        msgspec.msgpack.decode(model["metrics"]),
        msgspec.msgpack.decode(model["stored"], type=StoredFiles),
    )
    kinds = [kind for _, kind in await _history(replica.db, job_id)]
    assert ["state_changed", "state_changed", "training_progressed", "samples_generated"] == kinds[:4]
    assert ["checkpoint_saved", "training_warned"] == kinds[4:6]
    assert ["model_exported", "state_changed"] == kinds[-2:]
    assert row["last_seq"] == len(kinds) == 43
    assert 40 == replica.counted.total("towhee.job.reports", outcome="counted")
    assert 1 == replica.counted.total("towhee.job.ended", state="SUCCEEDED")


async def test_what_a_training_computes_is_used_by_its_owner_once(
    replica: Replica, trainer: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    job_id = await add_training(replica.db, owner, dataset)
    reports = Reports.of(await trainer.claim(job_id))
    spent = [2.5, math.nan, -1.0, 0.5]
    costly = [
        msgspec.structs.replace(reports.progress(number), compute_s=seconds)
        for number, seconds in enumerate(spent, start=1)
    ]
    await trainer.publish(*costly, costly[0])
    await replica.projection.step()

    assert UsageRecord(compute_s=3.0) == await replica.usage.total(owner.user_id, None)


async def test_a_gap_waits_and_what_comes_again_changes_nothing(
    replica: Replica, trainer: LaneWorker, owner: Principal, dataset: DatasetRow, bus: MemoryBus
) -> None:
    job_id = await add_training(replica.db, owner, dataset)
    reports = Reports.of(await trainer.claim(job_id))
    await trainer.publish(reports.progress(3), reports.progress(1), reports.progress(1))
    await replica.projection.step()
    assert (1, 1) == ((await _job(replica.db, job_id))["last_number"], bus.count(JOB_EVENTS))

    await trainer.publish(reports.progress(2))
    await replica.projection.step()
    bus.advance(0.3)
    await replica.projection.step()

    assert (3, 0) == ((await _job(replica.db, job_id))["last_number"], bus.count(JOB_EVENTS))
    assert 1 == replica.counted.total("towhee.job.reports", outcome="duplicate")
    assert 1 == replica.counted.total("towhee.job.reports", outcome="early")
    assert 3 == replica.counted.total("towhee.job.reports", outcome="counted")


async def test_a_worker_that_was_overtaken_is_not_believed(
    replica: Replica, trainer: LaneWorker, owner: Principal, dataset: DatasetRow, bus: MemoryBus
) -> None:
    job_id = await add_training(replica.db, owner, dataset)
    slow = Reports.of(await trainer.claim(job_id))
    await trainer.publish(slow.progress(1))
    await replica.projection.step()
    await replica.db.execute("UPDATE jobs SET heartbeat_at = now() - interval '1 minute'")
    current = Reports.of(await trainer.claim(job_id))

    await trainer.publish(slow.progress(2), slow.failed(3), current.progress(1))
    await replica.projection.step()

    row = await _job(replica.db, job_id)
    assert ("RUNNING", 2, 1, 0) == (
        row["state"],
        row["attempt"],
        row["last_number"],
        bus.count(JOB_EVENTS),
    )
    assert 2 == replica.counted.total("towhee.job.reports", outcome="stale")


@pytest.mark.parametrize("seed", range(3))
async def test_two_servers_that_get_the_reports_in_any_order_write_the_same_history(
    replica: Replica, other: Replica, trainer: LaneWorker, owner: Principal, seed: int
) -> None:
    dataset = await add_dataset(replica.db, owner, is_ready=True)
    jobs = [await add_training(replica.db, owner, dataset) for _ in range(3)]
    claims = [Reports.of(await trainer.claim(job_id)) for job_id in jobs]
    await replica.projection.start()
    await other.projection.start()

    published = [report for reports in claims for report in _whole(reports) for _ in range(2)]
    random.Random(seed).shuffle(published)  # noqa: S311 - a seed that can be said again
    await trainer.publish(*published)

    async def are_over() -> bool:
        return {"SUCCEEDED"} == {(await states(replica.db))[job_id] for job_id in jobs}

    await until_true(are_over, within_s=20)
    for job_id in jobs:
        rows = await replica.db.fetch(
            "SELECT payload FROM job_events WHERE job_id = {} AND kind = 'training_progressed' ORDER BY seq",
            job_id,
        )
        steps = [msgspec.msgpack.decode(row["payload"])["step"] for row in rows]
        assert [1, *range(5, 40)] == steps
        assert [*range(1, 44)] == [seq for seq, _ in await _history(replica.db, job_id)]
    assert 3 == len(await replica.db.fetch("SELECT id FROM models"))
    await other.projection.close()


async def test_embedding_jobs_and_trainings_share_a_window(
    replica: Replica, worker: Worker, trainer: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    job = await replica.create(owner, 2)
    claimed = await worker.claim(job.id)
    training = await add_training(replica.db, owner, dataset)
    reports = Reports.of(await trainer.claim(training))
    await trainer.publish(reports.progress(1))
    await worker.finish(claimed)
    await trainer.publish(reports.failed(2), Reports(new_id()).progress(1), Reports(job.id).progress(1))
    await worker.publish(JobAttemptFailed(job_id=str(training), attempt=1, code="INTERNAL", message=""))

    await replica.projection.step()

    assert {job.id: "SUCCEEDED", training: "FAILED"}.items() <= (await states(replica.db)).items()
    assert 3 == replica.counted.total("towhee.job.reports", outcome="unknown")


@pytest.mark.parametrize("was_cancelled", [False, True])
async def test_a_failure_and_a_stop_end_the_job_as_its_owner_wanted(
    replica: Replica, trainer: LaneWorker, owner: Principal, dataset: DatasetRow, was_cancelled: bool
) -> None:
    failing, stopping = [await add_training(replica.db, owner, dataset) for _ in range(2)]
    failed, stopped = [Reports.of(await trainer.claim(job_id)) for job_id in (failing, stopping)]
    if was_cancelled:
        await replica.cancellations.cancel(trainer_of(owner), failing, "TRAINING")
    await replica.cancellations.cancel(trainer_of(owner), stopping, "TRAINING")
    await trainer.publish(failed.failed(1, code="DATASET_INVALID", row=3), stopped.stopped(1))
    await replica.projection.step()

    row = await _job(replica.db, failing)
    expected = (
        ("CANCELLED", None, None)
        if was_cancelled
        else ("FAILED", "DATASET_INVALID", "Row 3: The loss is no number.")
    )
    assert expected == (row["state"], row["error_code"], row["error_message"])
    assert "CANCELLED" == (await states(replica.db))[stopping]


async def test_one_job_in_trouble_does_not_hold_up_another(
    replica: Replica, trainer: LaneWorker, owner: Principal, dataset: DatasetRow, bus: MemoryBus
) -> None:
    broken, sound = [await add_training(replica.db, owner, dataset) for _ in range(2)]
    claims = [Reports.of(await trainer.claim(job_id)) for job_id in (broken, sound)]
    # A row of history that should not be there.
    await replica.db.execute(
        "INSERT INTO job_events (job_id, seq, attempt, kind, payload) VALUES ({}, 3, 1, 'x', '')", broken
    )
    await trainer.publish(*(reports.progress(1) for reports in claims))

    await replica.projection.step()

    assert [0, 1] == [(await _job(replica.db, job_id))["last_number"] for job_id in (broken, sound)]
    assert 1 == bus.count(JOB_EVENTS)


async def test_a_training_that_goes_on_from_a_model_says_so(
    replica: Replica, trainer: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    first, second = [await add_training(replica.db, owner, dataset) for _ in range(2)]
    await trainer.publish(Reports.of(await trainer.claim(first)).model(1))
    await replica.projection.step()
    parent_id = model_id_of(first, 1)
    await replica.db.execute("UPDATE training_jobs SET parent_id = {} WHERE job_id = {}", parent_id, second)

    claimed = await trainer.claim(second)
    await trainer.publish(Reports.of(claimed).model(1))
    await replica.projection.step()

    parent = getattr(claimed.work, "parent", None)
    assert isinstance(parent, StoredFiles)
    assert f"models/{parent_id}" == parent.prefix
    [model] = await replica.db.fetch("SELECT parent_id FROM models WHERE job_id = {}", second)
    assert parent_id == model["parent_id"]


async def test_what_a_model_makes_are_files_of_its_owner(
    replica: Replica, trainer: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    training = await add_training(replica.db, owner, dataset)
    await trainer.publish(Reports.of(await trainer.claim(training)).model(1))
    await replica.projection.step()
    job_id = await add_generation(replica.db, owner, model_id_of(training, 1))

    await trainer.publish(Reports.of(await trainer.claim(job_id, "data")).made(1))
    await replica.projection.step()

    [row] = await replica.db.fetch("SELECT file_ids FROM generation_jobs")
    files = await replica.uploads.get_many(owner.user_id, row["file_ids"])
    assert ["my model-0001.png", "my model-0002.png"] == [file.name for file in files]
    assert [f"generated/{job_id}/0000.png", f"generated/{job_id}/0001.png"] == [
        file.object_key for file in files
    ]
    assert ("image/png", "IMAGE", 1.0, "Made by the model my model.", 10) == (
        files[0].media_type,
        files[0].modality,
        files[0].confidence,
        files[0].reason,
        files[0].byte_size,
    )
    assert "SUCCEEDED" == (await states(replica.db))[job_id]


async def _waiting(
    replica: Replica, owner: Principal, dataset: DatasetRow, *parameters: TrainerParameters
) -> list[UUID]:
    return [
        await add_training(replica.db, owner, dataset, parameters=one, is_ready=False) for one in parameters
    ]


async def test_a_valid_data_set_lets_the_trainings_go_on_that_fit_it(
    replica: Replica, trainer: LaneWorker, owner: Principal, bus: MemoryBus
) -> None:
    dataset = await add_dataset(replica.db, owner)
    fitting, unfitting, cancelled = await _waiting(
        replica,
        owner,
        dataset,
        GanParameters(),
        SemiSupervisedParameters(labels_per_class=500, batch_size=1000),
        AutoencoderParameters(),
    )
    await replica.cancellations.cancel(trainer_of(owner), cancelled, "TRAINING")
    await replica.outbox.start()

    await trainer.publish(validated(dataset, job_id=(await trainer.claim(dataset.job_id, "data")).job_id))
    await replica.projection.step()

    found = await _dataset(replica.db, dataset)
    assert (DatasetStatus.READY, "images", 1000, ["cat", "dog"], 900, 100) == (
        found.status,
        found.kind,
        found.num_rows,
        found.classes,
        found.num_train,
        found.num_test,
    )
    # Woken, it does not wait for its slow poll.
    [delivery] = await bus.puller(train_lane("default")).fetch(limit=10, wait_s=5)
    assert isinstance(delivery.message, TrainModel)
    assert (str(fitting), 1) == (delivery.message.job_id, delivery.message.publish_number)
    assert {fitting: "QUEUED", cancelled: "CANCELLED"}.items() <= (await states(replica.db)).items()
    row = await _job(replica.db, unfitting)
    assert ("FAILED", "DATASET_INVALID") == (row["state"], row["error_code"])
    assert row["error_message"] == (
        "labels_per_class is 500, and the class dog has 400 rows: choose less, or leave it out to keep all"
        " labels. batch_size is 1000, and the data set has 900 rows to train on: choose less, or add rows."
    )
    assert 1 == (await trainer.claim(fitting)).attempt


@pytest.mark.parametrize("how", ["invalid", "failed", "cancelled", "silent", "let go", "cancelled at once"])
async def test_the_trainings_of_a_data_set_that_comes_to_nothing_fail(
    replica: Replica, trainer: LaneWorker, owner: Principal, how: str
) -> None:
    dataset = await add_dataset(replica.db, owner)
    [job_id] = await _waiting(replica, owner, dataset, GanParameters())
    principal = trainer_of(owner)
    if how == "cancelled at once":
        await replica.cancellations.cancel(principal, dataset.job_id, DATASET)
    else:
        claimed = await trainer.claim(dataset.job_id, "data")
        reports = Reports.of(claimed)
        if how in {"cancelled", "silent", "let go"}:
            await replica.cancellations.cancel(principal, dataset.job_id, DATASET)
        if how == "silent":
            await replica.db.execute("UPDATE jobs SET heartbeat_at = now() - interval '1 minute'")
            await replica.cancellations.end_silent()
        elif how == "let go":
            assert "done" == await trainer.let_go(claimed, 0)
        else:
            report = {
                "invalid": unusable_report(dataset, "There is no picture.", row=3),
                "failed": reports.failed(1, message="There is no picture.", row=3, code="DATASET_INVALID"),
                "cancelled": validated(dataset),
            }[how]
            await trainer.publish(report)
            await replica.projection.step()

    found = await _dataset(replica.db, dataset)
    row = await _job(replica.db, job_id)
    is_cancelled = how not in {"invalid", "failed"}
    words = "The look at its rows was cancelled." if is_cancelled else "There is no picture."
    assert (DatasetStatus.INVALID, [words]) == (found.status, [issue.message for issue in found.issues])
    assert ("FAILED", "DATASET_INVALID", words if is_cancelled else f"Row 3: {words}") == (
        row["state"],
        row["error_code"],
        row["error_message"],
    )
    ended = {"invalid": "SUCCEEDED", "failed": "FAILED"}.get(how, "CANCELLED")
    assert ended == (await states(replica.db))[dataset.job_id]
    assert [] == await replica.db.fetch("SELECT id FROM outbox WHERE job_id = {}", job_id)


async def test_a_data_set_that_is_gone_is_passed_over(
    replica: Replica, trainer: LaneWorker, owner: Principal
) -> None:
    dataset = await add_dataset(replica.db, owner)
    await trainer.claim(dataset.job_id, "data")
    await replica.db.execute("DELETE FROM datasets WHERE id = {}", dataset.id)

    await trainer.publish(validated(dataset))
    await replica.projection.step()

    assert "SUCCEEDED" == (await states(replica.db))[dataset.job_id]


async def test_of_two_projections_at_once_one_counts_and_the_other_finds_nothing_new(
    replica: Replica, other: Replica, trainer: LaneWorker, owner: Principal
) -> None:
    dataset = await add_dataset(replica.db, owner)
    jobs = await _waiting(replica, owner, dataset, *[GanParameters()] * 5)
    await trainer.claim(dataset.job_id, "data")

    # As two windows at once have it.
    by_job = {str(dataset.job_id): [validated(dataset)]}
    await asyncio.gather(*(one.projection._work._write(by_job) for one in (replica, other, replica, other)))

    rows = await replica.db.fetch("SELECT message_id FROM outbox WHERE subject LIKE 'job.train.%'")
    assert sorted(f"{job_id}:1" for job_id in jobs) == sorted(row["message_id"] for row in rows)
    assert JobState.SUCCEEDED == (await states(replica.db))[dataset.job_id]
