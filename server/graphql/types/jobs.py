"""Embedding jobs."""

from datetime import datetime
from typing import Self

import strawberry

from server.graphql import ids
from server.graphql.context import Info
from server.graphql.scalars import Long
from server.graphql.types.enums import JobState
from server.graphql.types.node import Node
from server.graphql.types.pipelines import Pipeline
from server.records import EmbeddingJobRecord


@strawberry.type(description="Many inputs, embedded while nobody waits.")
class EmbeddingJob(Node):
    """An embedding job of the account."""

    state: JobState = strawberry.field(description="Where it is.")
    attempt: int = strawberry.field(description="Which try this is; 0 before the first.")
    item_count: Long = strawberry.field(description="How many inputs it has.")
    completed_count: Long = strawberry.field(description="How many have a vector.")
    failed_count: Long = strawberry.field(description="How many can't have one.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    started_at: datetime | None = strawberry.field(description="When a worker first took it.")
    finished_at: datetime | None = strawberry.field(description="When it reached its final state.")
    error: str | None = strawberry.field(description="Why it failed, if it did.")
    result_url: str | None = strawberry.field(
        description="All vectors as one file once the job has succeeded, for its owner: a path on this host. "
        "The file is NumPy's .npy, float32; the row of a failed item is NaN."
    )
    pipeline_name: strawberry.Private[str]

    @strawberry.field(description="What computes the vectors.")
    async def pipeline(self, info: Info) -> Pipeline | None:
        """Look the pipeline up, once for all jobs of an answer."""
        record = await info.context.loaders.pipeline_named(self.pipeline_name)
        return Pipeline.of(record) if record else None

    @classmethod
    def of(cls, record: EmbeddingJobRecord) -> Self:
        """Reshape a service's record."""
        succeeded = record.state is JobState.SUCCEEDED
        return cls(
            id=ids.encode("EmbeddingJob", record.id),
            state=record.state,
            attempt=record.attempt,
            item_count=Long(record.item_count),
            completed_count=Long(record.completed_count),
            failed_count=Long(record.failed_count),
            created_at=record.created_at,
            started_at=record.started_at,
            finished_at=record.finished_at,
            error=record.error_message,
            result_url=f"/v1/jobs/{record.id}/result" if succeeded else None,
            pipeline_name=record.pipeline_name,
        )
