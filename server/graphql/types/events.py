"""What a subscriber of a job sees."""

from datetime import datetime
from typing import Annotated, Any

import strawberry

from server.graphql.scalars import FloatMatrix, Long, float_matrix
from server.graphql.types.enums import ErrorCode, JobState
from server.records import (
    ItemEmbeddedRecord,
    ItemFailedRecord,
    JobEventRecord,
    JobStateChangedRecord,
)


@strawberry.interface(description="Something that happened to a job.")
class JobEvent:
    """What all events have."""

    cursor: str = strawberry.field(
        description="What `after` takes: a client that reconnects goes on without a gap or a repeat."
    )
    at: datetime = strawberry.field(description="When it was recorded.")
    attempt: int = strawberry.field(description="Which try of the job it belongs to.")


@strawberry.type(description="The job has come to a state.")
class JobStateChanged(JobEvent):
    """The job entered a state."""

    state: JobState = strawberry.field(description="Where the job is now.")
    reason: str | None = strawberry.field(description="Why, for a person.")


@strawberry.type(description="One input has its vector.")
class ItemEmbedded(JobEvent):
    """One vector of a job."""

    index: Long = strawberry.field(description="Which input, counted from 0.")
    vector: FloatMatrix = strawberry.field(description="One row.")


@strawberry.type(description="One input can't have a vector.")
class ItemFailed(JobEvent):
    """One input of a job has no vector."""

    index: Long = strawberry.field(description="Which input, counted from 0.")
    code: ErrorCode = strawberry.field(description="For programs.")
    message: str = strawberry.field(description="One sentence for a person.")


EmbeddingJobEvent = Annotated[
    JobStateChanged | ItemEmbedded | ItemFailed,
    strawberry.union("EmbeddingJobEvent", description="What happens to an embedding job."),
]


def job_event(record: JobEventRecord) -> JobStateChanged | ItemEmbedded | ItemFailed:
    """Reshape a service's record.

    Raises:
        TypeError: it is no event of an embedding job.
    """
    common: dict[str, Any] = {"cursor": record.cursor, "at": record.at, "attempt": record.attempt}
    match record:
        case JobStateChangedRecord(state=state, reason=reason):
            return JobStateChanged(**common, state=state, reason=reason)
        case ItemEmbeddedRecord(index=index, vector=vector):
            return ItemEmbedded(**common, index=Long(index), vector=float_matrix(vector.reshape(1, -1)))
        case ItemFailedRecord(index=index, code=code, message=message):
            return ItemFailed(**common, index=Long(index), code=code, message=message)
        case _:
            raise TypeError(type(record).__name__)
