"""Pictures and texts that models make."""

from datetime import datetime
from typing import Self
from uuid import UUID

import strawberry

from server.graphql import ids
from server.graphql.context import Info
from server.graphql.types.enums import ErrorCode, JobState
from server.graphql.types.files import File
from server.graphql.types.node import Node
from server.graphql.types.training import Model
from server.training_records import GenerationJobRecord


@strawberry.type(description="Pictures or texts that a model makes, while nobody waits.")
class GenerationJob(Node):
    """A generation of the account."""

    state: JobState = strawberry.field(description="Where it is.")
    attempt: int = strawberry.field(description="Which try this is; 0 before the first.")
    count: int = strawberry.field(description="How many pictures or texts.")
    seed: int = strawberry.field(description="The same seed makes the same again.")
    label: str | None = strawberry.field(description="The class that was asked for.")
    prompt: str = strawberry.field(description="How each text begins.")
    temperature: float = strawberry.field(description="How daring texts are.")
    top_p: float = strawberry.field(
        description="The likeliest tokens that together have this probability are chosen from."
    )
    length: int = strawberry.field(description="Tokens of each text.")
    results: list[File] = strawberry.field(description="What it has made: one file each.")
    error: str | None = strawberry.field(description="Why it failed, if it did.")
    error_code: ErrorCode | None = strawberry.field(description="The same for programs.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    started_at: datetime | None = strawberry.field(description="When a worker first took it.")
    finished_at: datetime | None = strawberry.field(description="When it reached its final state.")
    model_id: strawberry.Private[UUID]

    @strawberry.field(description="What makes them; null once the model is deleted.")
    async def model(self, info: Info) -> Model | None:
        """Look the model up, once for all generations of an answer."""
        record = await info.context.loaders.model(self.model_id)
        return Model.of(record) if record else None

    @classmethod
    def of(cls, record: GenerationJobRecord) -> Self:
        """Reshape a service's record."""
        spec = record.spec
        return cls(
            id=ids.encode("GenerationJob", record.id),
            state=record.state,
            attempt=record.attempt,
            count=spec.count,
            seed=spec.seed,
            label=spec.label,
            prompt=spec.prompt,
            temperature=spec.temperature,
            top_p=spec.top_p,
            length=spec.length,
            results=[File.of(file) for file in record.files],
            error=record.error_message,
            error_code=record.error_code,
            created_at=record.created_at,
            started_at=record.started_at,
            finished_at=record.finished_at,
            model_id=record.model_id,
        )
