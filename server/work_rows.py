"""What a worker gets to do, out of the rows of its job."""

from typing import Any
from uuid import UUID

import msgspec

from bus.messages import (
    Checkpoint,
    GenerationSpec,
    GenerationWork,
    SampleSource,
    StoredFiles,
    TrainingSpec,
    TrainingWork,
    UploadedSource,
    ValidationWork,
)
from bus.messages.work import Work
from server.database import Database
from server.dataset_facts import decode_facts
from server.ids import model_id_of
from server.lane_rows import DATASET, TRAINING

_TRAINING = """
SELECT training_jobs.spec, training_jobs.checkpoint, training_jobs.parent_id, datasets.facts,
    parents.stored AS parent
FROM training_jobs JOIN datasets ON datasets.id = training_jobs.dataset_id
LEFT JOIN models AS parents ON parents.id = training_jobs.parent_id WHERE training_jobs.job_id = {}
"""
_GENERATION = """
SELECT generation_jobs.spec, models.stored, datasets.classes
FROM generation_jobs JOIN models ON models.id = generation_jobs.model_id
JOIN datasets ON datasets.id = models.dataset_id WHERE generation_jobs.job_id = {}
"""
_VALIDATION = "SELECT id, name, source FROM datasets WHERE job_id = {}"


class CantBegin(Exception):
    """What a job needs is gone or can't be read: no worker could do it. The message is for its owner."""


async def read_work(db: Database, job: dict[str, Any]) -> Work:
    """Return what the worker that has just got a job needs to know.

    Args:
        db: in the transaction of the claim.
        job: its ``id``, ``kind`` and ``attempt``.

    Raises:
        CantBegin: there is nothing that could be done.
    """
    try:
        if job["kind"] == TRAINING:
            return await _training(db, job["id"], job["attempt"])
        if job["kind"] == DATASET:
            return await _validation(db, job["id"])
        return await _generation(db, job["id"])
    except msgspec.DecodeError as error:
        raise CantBegin("It was written by another release, and this one can't read it.") from error


async def _training(db: Database, job_id: UUID, attempt: int) -> TrainingWork:
    row = await db.fetch_one(_TRAINING, job_id)
    dataset = None if row is None or row["facts"] is None else decode_facts(row["facts"]).dataset
    if row is None or dataset is None:
        raise CantBegin("Its data set is gone.")
    if row["parent_id"] is not None and row["parent"] is None:
        raise CantBegin("The model whose weights it was to begin with is gone.")
    return TrainingWork(
        spec=msgspec.msgpack.decode(row["spec"], type=TrainingSpec),
        dataset=dataset,
        model_id=str(model_id_of(job_id, attempt)),
        checkpoint=None
        if row["checkpoint"] is None
        else msgspec.msgpack.decode(row["checkpoint"], type=Checkpoint),
        parent=None if row["parent"] is None else msgspec.msgpack.decode(row["parent"], type=StoredFiles),
    )


async def _validation(db: Database, job_id: UUID) -> ValidationWork:
    row = await db.fetch_one(_VALIDATION, job_id)
    if row is None:
        raise CantBegin("The data set is gone.")
    return ValidationWork(
        dataset_id=str(row["id"]),
        name=row["name"],
        source=msgspec.msgpack.decode(row["source"], type=UploadedSource | SampleSource),
    )


async def _generation(db: Database, job_id: UUID) -> GenerationWork:
    row = await db.fetch_one(_GENERATION, job_id)
    if row is None:
        raise CantBegin("The model is gone.")
    return GenerationWork(
        model=msgspec.msgpack.decode(row["stored"], type=StoredFiles),
        spec=msgspec.msgpack.decode(row["spec"], type=GenerationSpec),
        classes=row["classes"],
    )
