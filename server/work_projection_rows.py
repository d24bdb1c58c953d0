"""SQL of the projection of work that one worker does alone: all jobs of a window in a few round trips."""

import math
from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

import msgspec

from bus.messages import ModelExported, SamplesMade
from server.database import Database
from server.dataset_release import Released, settle_dataset
from server.ids import new_id
from server.job_payloads import encode_payload, kind_of
from server.job_rows import lock_job_rows
from server.records import JobState, Modality
from server.work_tally import WorkTally

_WRITE = """
WITH told AS (
    INSERT INTO job_events (job_id, seq, attempt, kind, payload)
    SELECT * FROM unnest({}::uuid[], {}::bigint[], {}::integer[], {}::text[], {}::bytea[])
), numbered AS (
    UPDATE lane_jobs SET last_number = new.last_number
    FROM unnest({}::uuid[], {}::integer[]) AS new (job_id, last_number)
    WHERE lane_jobs.job_id = new.job_id
), trained AS (
    UPDATE training_jobs SET step = coalesce(new.step, training_jobs.step),
        total_steps = coalesce(new.total_steps, training_jobs.total_steps),
        metrics = coalesce(new.metrics, training_jobs.metrics),
        eta_s = CASE WHEN new.is_final THEN NULL WHEN new.step IS NULL THEN training_jobs.eta_s
            ELSE new.eta_s END,
        device = coalesce(new.device, training_jobs.device),
        checkpoint = coalesce(new.checkpoint, training_jobs.checkpoint)
    FROM unnest({}::uuid[], {}::integer[], {}::integer[], {}::bytea[], {}::float8[], {}::text[], {}::bytea[],
        {}::boolean[]) AS new (job_id, step, total_steps, metrics, eta_s, device, checkpoint, is_final)
    WHERE training_jobs.job_id = new.job_id
)
UPDATE jobs SET state = new.state, last_seq = new.last_seq, error_code = new.error_code,
    error_message = new.error_message, heartbeat_at = now(),
    finished_at = CASE WHEN new.is_final THEN now() END
FROM unnest({}::uuid[], {}::text[], {}::bigint[], {}::text[], {}::text[], {}::boolean[])
    AS new (id, state, last_seq, error_code, error_message, is_final)
WHERE jobs.id = new.id
"""
# The model it began with may have gone meanwhile; the new one stays all the same.
_MODEL = """
INSERT INTO models (id, user_id, job_id, name, trainer, modality, dimension, sha256, generates, metrics,
    stored, dataset_id, parent_id)
SELECT {}::uuid, {}::uuid, job_id, name, trainer, {}::text, {}::integer, {}::text, {}::text, {}::bytea,
    {}::bytea, dataset_id, (SELECT id FROM models AS parents WHERE parents.id = training_jobs.parent_id)
FROM training_jobs WHERE job_id = {}::uuid
"""
_FILES = """
INSERT INTO files (id, user_id, name, media_type, modality, confidence, reason, byte_size, sha256, object_key)
SELECT new.id, {}::uuid, new.name, {}::text, {}::text, 1.0, {}::text, new.byte_size, new.sha256,
    new.object_key
FROM unnest({}::uuid[], {}::text[], {}::bigint[], {}::text[], {}::text[])
    AS new (id, name, byte_size, sha256, object_key)
"""
_MODALITIES = {"image/png": Modality.IMAGE, "text/plain": Modality.TEXT}
_ENDINGS = {"image/png": "png", "text/plain": "txt"}


async def lock_work(db: Database, job_ids: Collection[str]) -> dict[str, WorkTally]:
    """Lock the rows of these jobs, always in the same order, and return those that are in a lane."""
    rows = await lock_job_rows(db, job_ids)
    lanes = await db.fetch(
        "SELECT lane_jobs.job_id, last_number, datasets.id AS dataset_id FROM lane_jobs"
        " LEFT JOIN datasets ON datasets.job_id = lane_jobs.job_id"
        " WHERE lane_jobs.job_id = ANY({}::uuid[])",
        [row["id"] for row in rows],
    )
    lane_of = {row.pop("job_id"): row for row in lanes}
    return {
        str(row["id"]): WorkTally(**{**row, **lane_of[row["id"]], "state": JobState(row["state"])})
        for row in rows
        if row["id"] in lane_of
    }


async def write_work(db: Database, jobs: Iterable[WorkTally]) -> Released:
    """Write what the reports have changed, for jobs that are locked, and what follows from it elsewhere."""
    changed = [job for job in jobs if job.events]
    released = Released()
    if not changed:
        return released
    for job in changed:
        job.last_seq += len(job.events)
    await db.execute(
        _WRITE,
        *_columns_of_events(changed),
        [job.id for job in changed],
        [job.last_number for job in changed],
        *_columns_of_trainings(changed),
        *_columns_of_jobs(changed),
    )
    for job in changed:
        if job.model is not None:
            await _add_model(db, job, job.model)
        if job.samples is not None:
            await _add_files(db, job, job.samples)
        if job.dataset is not None:
            released.add(await settle_dataset(db, job.id, job.dataset))
    return released


def _columns_of_events(jobs: Sequence[WorkTally]) -> list[list[object]]:
    rows = [
        (job.id, seq, job.attempt, kind_of(event.payload), encode_payload(event.payload))
        for job in jobs
        for seq, event in enumerate(job.events, job.last_seq - len(job.events) + 1)
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def _columns_of_trainings(jobs: Sequence[WorkTally]) -> list[list[object]]:
    rows = [
        (
            job.id,
            None if job.progress is None else job.progress.step,
            None if job.progress is None else job.progress.total_steps,
            None if job.progress is None else msgspec.msgpack.encode(job.progress.metrics),
            None if job.progress is None else job.progress.eta_s,
            None if job.progress is None else job.progress.device,
            None if job.checkpoint is None else msgspec.msgpack.encode(job.checkpoint),
            job.state.is_final,
        )
        for job in jobs
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def _columns_of_jobs(jobs: Sequence[WorkTally]) -> list[list[object]]:
    return [
        [job.id for job in jobs],
        [job.state.value for job in jobs],
        [job.last_seq for job in jobs],
        [job.error_code for job in jobs],
        [job.error_message for job in jobs],
        [job.state.is_final for job in jobs],
    ]


async def _add_model(db: Database, job: WorkTally, report: ModelExported) -> None:
    metrics = {name: value for name, value in report.metrics.items() if math.isfinite(value)}
    await db.execute(
        _MODEL,
        UUID(report.model_id),
        job.user_id,
        report.modality,
        report.dimension,
        report.sha256,
        report.generates,
        msgspec.msgpack.encode(metrics),
        msgspec.msgpack.encode(report.stored),
        job.id,
    )


async def _add_files(db: Database, job: WorkTally, report: SamplesMade) -> None:
    row = await db.fetch_one(
        "SELECT models.name FROM generation_jobs JOIN models ON models.id = generation_jobs.model_id"
        " WHERE generation_jobs.job_id = {}",
        job.id,
    )
    if row is None:
        # Its model was deleted, and the request with it.
        return
    files, ending = report.stored.files, _ENDINGS[report.media_type]
    ids = [new_id() for _ in files]
    await db.execute(
        _FILES,
        job.user_id,
        report.media_type,
        _MODALITIES[report.media_type].value,
        f"Made by the model {row['name']}.",
        ids,
        [f"{row['name']}-{number:04}.{ending}" for number, _ in enumerate(files, start=1)],
        [file.byte_size for file in files],
        [file.sha256 for file in files],
        [f"{report.stored.prefix}/{file.name}" for file in files],
    )
    await db.execute("UPDATE generation_jobs SET file_ids = {} WHERE job_id = {}", ids, job.id)
