"""Rows of jobs that one worker does alone, in the train or the data lane, whatever they are about."""

from uuid import UUID

from bus import subjects
from bus.messages import EmbedJob, GenerateSamples, TrainModel, ValidateDataset
from bus.messages.work import Lane
from server.database import Database
from server.job_rows import EMBEDDING, JobCommand, NewJob, add_job, add_to_outbox

#: ``jobs.kind`` of these jobs.
TRAINING, DATASET, GENERATION = "TRAINING", "DATASET", "GENERATION"

_COMMANDS: dict[str, type[TrainModel] | type[ValidateDataset] | type[GenerateSamples]] = {
    TRAINING: TrainModel,
    DATASET: ValidateDataset,
    GENERATION: GenerateSamples,
}
_LANES: dict[str, Lane] = {TRAINING: "train", DATASET: "data", GENERATION: "data"}


class LaneDraft(NewJob, frozen=True, kw_only=True):
    """A job that is about to be written."""

    pool: str
    priority: int = 0
    #: False: it waits for its data set, and nothing is put on the bus yet.
    is_ready: bool = True


async def add_lane_job(db: Database, draft: LaneDraft) -> bool:
    """Write the rows that all such jobs have, in a transaction that also writes what this kind has.

    Returns False, with nothing written, if the idempotency key has been taken meanwhile.
    """
    if not await add_job(db, draft):
        return False
    await db.execute(
        "INSERT INTO lane_jobs (job_id, user_id, lane, pool, priority, is_ready)"
        " VALUES ({}, {}, {}, {}, {}, {})",
        draft.id,
        draft.user_id,
        _LANES[draft.kind],
        draft.pool,
        draft.priority,
        draft.is_ready,
    )
    if draft.is_ready:
        await put_on_lane(db, draft.id, kind=draft.kind, pool=draft.pool, publish_number=1)
    return True


async def put_on_lane(
    db: Database, job_id: UUID, *, kind: str, pool: str, publish_number: int, traceparent: str | None = None
) -> None:
    """Write a job's command to the outbox, in the transaction of whatever makes it necessary."""
    await add_to_outbox(
        db,
        lane_subject(kind, pool, job_id),
        lane_command(kind, job_id, publish_number),
        traceparent=traceparent,
    )


def lane_subject(kind: str, pool: str, job_id: UUID) -> str:
    """Return where the command of such a job is published."""
    subject = subjects.train_job if _LANES[kind] == "train" else subjects.data_job
    return subject(pool, str(job_id))


def lane_command(kind: str, job_id: UUID, publish_number: int) -> JobCommand:
    """Return what is published when such a job is to be worked on."""
    return _COMMANDS[kind](job_id=str(job_id), publish_number=publish_number)


def command_of(kind: str, job_id: UUID, publish_number: int) -> JobCommand:
    """Return what is published when a job of any kind is to be worked on."""
    if kind == EMBEDDING:
        return EmbedJob(job_id=str(job_id), publish_number=publish_number)
    return lane_command(kind, job_id, publish_number)
