"""Rows of jobs that one worker does alone, in the train or the data lane, whatever they are about."""

from uuid import UUID

from bus import subjects
from bus.messages import EmbedJob, GenerateSamples, TrainModel, ValidateDataset
from bus.messages.work import Lane
from server.database import Database
from server.job_payloads import StateChanged
from server.job_rows import EMBEDDING, JobCommand, NewEvent, add_to_outbox, append_events
from server.records import JobState, Record

#: ``jobs.kind`` of these jobs.
TRAINING, DATASET, GENERATION = "TRAINING", "DATASET", "GENERATION"

_COMMANDS: dict[str, type[TrainModel] | type[ValidateDataset] | type[GenerateSamples]] = {
    TRAINING: TrainModel,
    DATASET: ValidateDataset,
    GENERATION: GenerateSamples,
}
_LANES: dict[str, Lane] = {TRAINING: "train", DATASET: "data", GENERATION: "data"}


class LaneDraft(Record, frozen=True):
    """A job that is about to be written."""

    id: UUID
    user_id: UUID
    kind: str
    pool: str
    priority: int = 0
    #: False: it waits for its data set, and nothing is put on the bus yet.
    is_ready: bool = True
    idempotency_key: str | None = None
    request_digest: bytes | None = None


async def add_lane_job(db: Database, draft: LaneDraft) -> bool:
    """Write the rows that all such jobs have, in a transaction that also writes what this kind has.

    Returns False, with nothing written, if the idempotency key has been taken meanwhile.
    """
    row = await db.fetch_one(
        "INSERT INTO jobs (id, user_id, kind, state, last_seq, idempotency_key, request_digest)"
        " VALUES ({}, {}, {}, {}, 1, {}, {})"
        " ON CONFLICT (user_id, kind, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
        " RETURNING id",
        draft.id,
        draft.user_id,
        draft.kind,
        JobState.QUEUED.value,
        draft.idempotency_key,
        draft.request_digest,
    )
    if row is None:
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
    queued = NewEvent(payload=StateChanged(state=JobState.QUEUED))
    await append_events(db, draft.id, attempt=0, after_seq=0, events=[queued])
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
