"""SQL of trainings and generations, and both as records."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec

from bus.messages import GenerationSpec, TrainingSpec
from server.job_rows import known_code
from server.lane_rows import GENERATION, TRAINING
from server.records import FileRecord, JobState
from server.training_records import GenerationJobRecord, TrainerKind, TrainingJobRecord

#: Both tables of a training; no column name but their keys is in both.
TRAININGS: Final = "jobs JOIN training_jobs ON training_jobs.job_id = jobs.id"
TRAINING_COLUMNS: Final = (
    "jobs.*, training_jobs.*, (SELECT models.id FROM models WHERE models.job_id = jobs.id"
    " AND models.deleted_at IS NULL ORDER BY models.id DESC LIMIT 1) AS model_id"
)
#: The user's trainings.
TRAININGS_OF_USER: Final = f"jobs.user_id = {{}} AND jobs.kind = '{TRAINING}'"

#: Both tables of a generation.
GENERATIONS: Final = "jobs JOIN generation_jobs ON generation_jobs.job_id = jobs.id"
#: The user's generations.
GENERATIONS_OF_USER: Final = f"jobs.user_id = {{}} AND jobs.kind = '{GENERATION}'"


def training_job_record(row: dict[str, Any]) -> TrainingJobRecord:
    """Return the record of a row of ``TRAININGS`` with ``TRAINING_COLUMNS``."""
    metrics = row["metrics"]
    return TrainingJobRecord(
        id=row["id"],
        user_id=row["user_id"],
        name=row["name"],
        trainer=TrainerKind(row["trainer"]),
        state=JobState(row["state"]),
        attempt=row["attempt"],
        dataset_id=row["dataset_id"],
        seed=training_spec(row).seed,
        step=row["step"],
        total_steps=row["total_steps"],
        metrics={} if metrics is None else msgspec.msgpack.decode(metrics, type=dict[str, float]),
        eta_s=row["eta_s"],
        device=row["device"],
        error_code=None if row["error_code"] is None else known_code(row["error_code"]),
        error_message=row["error_message"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        model_id=row["model_id"],
    )


def training_spec(row: dict[str, Any]) -> TrainingSpec:
    """Return what the training of a row was told."""
    return msgspec.msgpack.decode(row["spec"], type=TrainingSpec)


def generation_job_record(row: dict[str, Any], files: Mapping[UUID, FileRecord]) -> GenerationJobRecord:
    """Return the record of a row of ``GENERATIONS``.

    Args:
        row: with the columns of both tables.
        files: what it has made and what has not been deleted since, among others.
    """
    return GenerationJobRecord(
        id=row["id"],
        user_id=row["user_id"],
        model_id=row["model_id"],
        spec=msgspec.msgpack.decode(row["spec"], type=GenerationSpec),
        state=JobState(row["state"]),
        attempt=row["attempt"],
        error_code=None if row["error_code"] is None else known_code(row["error_code"]),
        error_message=row["error_message"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        files=[files[file_id] for file_id in row["file_ids"] if file_id in files],
    )
