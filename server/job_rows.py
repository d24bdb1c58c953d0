"""SQL that several services of the durable half share: a job as a record, and rows added to its history."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import msgspec

from bus import codec, tracing
from bus.messages import EmbedJob, GenerateSamples, TrainModel, ValidateDataset
from server.database import Database
from server.errors import ErrorCode
from server.job_payloads import Payload, StateChanged, encode_payload, kind_of
from server.records import EmbeddingJobRecord, JobState

#: ``jobs.kind`` of an embedding job.
EMBEDDING = "EMBEDDING"

#: A heartbeat is answered each time, and written down only this often: the rest cost one read each.
HEARTBEAT_WRITTEN_EVERY_S = 2.0

#: Both tables of an embedding job; no column name but these two keys is in both.
EMBEDDING_JOBS = "jobs JOIN embedding_jobs ON embedding_jobs.job_id = jobs.id"


#: What is put on the bus when a job is to be worked on.
JobCommand = EmbedJob | TrainModel | ValidateDataset | GenerateSamples


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A row of history that is about to be written."""

    payload: Payload
    #: What may happen only once in the life of the job; None where repeats are fine.
    item_key: str | None = None


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """What every job that is about to be written has, whatever its kind."""

    id: UUID
    user_id: UUID
    kind: str
    #: The same key with the same request, told by its digest, answers with the same job.
    idempotency_key: str | None = None
    request_digest: bytes | None = None


async def add_job(db: Database, job: NewJob) -> bool:
    """Write the row of a job and the first of its history, in the transaction that writes the rest of it.

    Returns False, with nothing written, if the idempotency key has been taken meanwhile.
    """
    row = await db.fetch_one(
        "INSERT INTO jobs (id, user_id, kind, state, last_seq, idempotency_key, request_digest)"
        " VALUES ({}, {}, {}, {}, 1, {}, {})"
        " ON CONFLICT (user_id, kind, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
        " RETURNING id",
        job.id,
        job.user_id,
        job.kind,
        JobState.QUEUED.value,
        job.idempotency_key,
        job.request_digest,
    )
    if row is None:
        return False
    queued = NewEvent(payload=StateChanged(state=JobState.QUEUED))
    await append_events(db, job.id, attempt=0, after_seq=0, events=[queued])
    return True


async def lock_job_rows(db: Database, job_ids: Collection[str]) -> list[dict[str, Any]]:
    """Lock the rows of these jobs, always in the same order, and return what reports about them are held to.

    What belongs to a job in other tables is read by a statement after this one: one that waits for a lock
    reads the tables it does not lock as they were before it waited.
    """
    ids = [parsed for parsed in map(parse_job_id, job_ids) if parsed is not None]
    return await db.fetch(
        "SELECT id, user_id, kind, attempt, state, last_seq FROM jobs"
        " WHERE id = ANY({}::uuid[]) ORDER BY id FOR UPDATE",
        ids,
    )


async def append_events(
    db: Database, job_id: UUID, *, attempt: int, after_seq: int, events: Sequence[NewEvent]
) -> int:
    """Add rows to the history of a job and return the sequence number of the last one.

    The caller holds the lock of the job's row, read ``after_seq`` under it, and writes what is returned
    back to ``jobs.last_seq`` in the same transaction.
    """
    last_seq = after_seq + len(events)
    await db.execute(
        "INSERT INTO job_events (job_id, seq, attempt, kind, item_key, payload)"
        " SELECT {}, new.seq, {}, new.kind, new.item_key, new.payload"
        " FROM unnest({}::bigint[], {}::text[], {}::text[], {}::bytea[])"
        " AS new (seq, kind, item_key, payload)",
        job_id,
        attempt,
        list(range(after_seq + 1, last_seq + 1)),
        [kind_of(event.payload) for event in events],
        [event.item_key for event in events],
        [encode_payload(event.payload) for event in events],
    )
    return last_seq


async def enter_state(
    db: Database,
    row: dict[str, Any],
    state: JobState,
    reason: str | None,
    *,
    code: ErrorCode | None = None,
) -> int:
    """Write a locked job's new state and its history; return the sequence number of the new row.

    Args:
        db: in the transaction that holds the lock.
        row: the job's ``id``, ``attempt`` and ``last_seq``, read under it.
        state: what it enters.
        reason: why, for a person.
        code: why it has failed; the reason is then kept with it.
    """
    seq = await append_events(
        db,
        row["id"],
        attempt=row["attempt"],
        after_seq=row["last_seq"],
        events=[NewEvent(payload=StateChanged(state=state, reason=reason))],
    )
    await db.execute(
        "UPDATE jobs SET state = {}, last_seq = {}, error_code = {}, error_message = {},"
        " finished_at = CASE WHEN {}::boolean THEN now() END WHERE id = {}",
        state.value,
        seq,
        None if code is None else code.value,
        None if code is None else reason,
        state.is_final,
        row["id"],
    )
    return seq


async def add_to_outbox(
    db: Database, subject: str, command: JobCommand, *, traceparent: str | None = None
) -> None:
    """Write a job's command to the outbox, in the transaction of whatever makes it necessary.

    Args:
        db: in a transaction.
        subject: where it is to be published.
        command: what is to be published.
        traceparent: the trace it belongs to; the current one, if there is one, where none is named.
    """
    await db.execute(
        "INSERT INTO outbox (job_id, subject, message_id, message, traceparent)"
        " VALUES ({}::uuid, {}, {}, {}, {})",
        command.job_id,
        subject,
        f"{command.job_id}:{command.publish_number}",
        codec.encode(command),
        traceparent or tracing.current_traceparent(),
    )


def embedding_job_record(row: dict[str, Any]) -> EmbeddingJobRecord:
    """Return the record of a row of ``EMBEDDING_JOBS``."""
    return EmbeddingJobRecord(
        id=row["id"],
        user_id=row["user_id"],
        state=JobState(row["state"]),
        attempt=row["attempt"],
        pipeline_name=row["pipeline_name"],
        item_count=row["item_count"],
        completed_count=row["completed_count"],
        failed_count=row["failed_count"],
        dimension=row["dimension"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error_code=None if row["error_code"] is None else known_code(row["error_code"]),
        error_message=row["error_message"],
    )


def storable(text: str) -> str:
    """Return a text as PostgreSQL takes it: every character but this one."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def known_code(code: str) -> ErrorCode:
    """Return a worker's error code as one of the contract; a newer release may send one we do not have."""
    try:
        return ErrorCode(code)
    except ValueError:
        return ErrorCode.INTERNAL


def parse_job_id(job_id: str) -> UUID | None:
    """Return the id, or None, which no job has: what a worker says of an impossible job is answered too."""
    try:
        return UUID(job_id)
    except ValueError:
        return None
