"""Rows of ``job_events`` as the records that subscribers get: one each, but of a chunk one an item."""

from datetime import datetime
from uuid import UUID

import msgspec

from bus.objects import ObjectStore
from server.job_cursors import Position
from server.job_payloads import (
    ITEMS_EMBEDDED,
    CheckpointKept,
    ChunkEmbedded,
    ModelMade,
    Payload,
    ProgressMade,
    SamplesShown,
    StateChanged,
    WarningGiven,
    decode_payload,
)
from server.job_rows import known_code
from server.job_vectors import read_chunk
from server.object_access import reaching_objects
from server.records import ItemEmbeddedRecord, ItemFailedRecord, JobEventRecord, JobStateChangedRecord
from server.training_records import (
    CheckpointSavedRecord,
    ModelExportedRecord,
    SamplesGeneratedRecord,
    TrainingProgressedRecord,
    TrainingWarnedRecord,
)

#: A longer text is for its own route, not for everybody who watches.
_MAX_TEXT_BYTES = 64 * 1024


class EventRow(msgspec.Struct, kw_only=True):
    """One row of history as it was read."""

    seq: int
    attempt: int
    kind: str
    payload: bytes
    at: datetime


async def expand(objects: ObjectStore, job_id: UUID, row: EventRow) -> list[JobEventRecord]:
    """Return all records of a row; none of a kind that a newer release has written.

    Raises:
        ObjectNotFound: what belongs to it is gone from the object store.
        ObjectsUnavailable: that can't be read now.
        ObjectStoreError: it is not what the row says.
    """
    payload = decode_payload(row.kind, row.payload)
    if payload is None:
        return []
    if isinstance(payload, ChunkEmbedded):
        return await _items(objects, row, payload)
    if isinstance(payload, SamplesShown):
        return [await _samples(objects, job_id, row, payload)]
    return [_record(row, payload)]


def is_large(row: EventRow) -> bool:
    """Whether the records of a row are too much to hold for those who are still to come to it."""
    return row.kind == ITEMS_EMBEDDED


def _record(row: EventRow, payload: Payload) -> JobEventRecord:
    cursor, at, attempt = Position(row.seq, 0).encode(), row.at, row.attempt
    match payload:
        case ProgressMade():
            return TrainingProgressedRecord(
                cursor=cursor,
                at=at,
                attempt=attempt,
                step=payload.step,
                total_steps=payload.total_steps,
                epoch=payload.epoch,
                metrics=payload.metrics,
                eta_s=payload.eta_s,
                device=payload.device,
            )
        case CheckpointKept():
            return CheckpointSavedRecord(cursor=cursor, at=at, attempt=attempt, step=payload.step)
        case WarningGiven():
            return TrainingWarnedRecord(
                cursor=cursor,
                at=at,
                attempt=attempt,
                step=payload.step,
                code=payload.code,
                message=payload.message,
            )
        case ModelMade():
            return ModelExportedRecord(cursor=cursor, at=at, attempt=attempt, model_id=payload.model_id)
        case StateChanged():
            return JobStateChangedRecord(
                cursor=cursor, at=at, attempt=attempt, state=payload.state, reason=payload.reason
            )
        case _:
            raise TypeError(f"{type(payload).__name__} is no single record")


async def _samples(
    objects: ObjectStore, job_id: UUID, row: EventRow, shown: SamplesShown
) -> SamplesGeneratedRecord:
    text = None
    if shown.media_type == "text/plain" and shown.byte_size <= _MAX_TEXT_BYTES:
        with reaching_objects():
            text = (await objects.get(shown.object_key)).decode(errors="replace")
    return SamplesGeneratedRecord(
        cursor=Position(row.seq, 0).encode(),
        at=row.at,
        attempt=row.attempt,
        job_id=job_id,
        seq=row.seq,
        step=shown.step,
        name=shown.name,
        media_type=shown.media_type,
        text=text,
    )


async def _items(objects: ObjectStore, row: EventRow, chunk: ChunkEmbedded) -> list[JobEventRecord]:
    vectors = await read_chunk(objects, chunk)
    failures = {failure.index: failure for failure in chunk.failures}
    records: list[JobEventRecord] = []
    for offset in range(chunk.count):
        index = chunk.first_index + offset
        cursor = Position(row.seq, offset).encode()
        failure = failures.get(index)
        records.append(
            ItemEmbeddedRecord(
                cursor=cursor, at=row.at, attempt=row.attempt, index=index, vector=vectors[offset]
            )
            if failure is None
            else ItemFailedRecord(
                cursor=cursor,
                at=row.at,
                attempt=row.attempt,
                index=index,
                code=known_code(failure.code),
                message=failure.message,
            )
        )
    return records
