"""Following a job."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Annotated, TypeVar

import strawberry

from server.auth.principal import Scope
from server.graphql import ids
from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.types.events import EmbeddingJobEvent, TrainingEvent, job_event, training_event
from server.lane_rows import TRAINING
from server.records import JobEventRecord

E = TypeVar("E")


@strawberry.type
class JobSubscriptions:
    """Histories of jobs."""

    @strawberry.subscription(
        description="What happens to an embedding job: from its first event, or after a cursor, until "
        "the job has ended. Needs READ or EMBED."
    )
    async def embedding_job_events(
        self,
        info: Info,
        job_id: Annotated[strawberry.ID, strawberry.argument(description="The job.")],
        after: Annotated[
            str | None, strawberry.argument(description="The cursor of the last event that was seen.")
        ] = None,
    ) -> AsyncGenerator[EmbeddingJobEvent, None]:
        """Check that the job is the caller's, then follow it."""
        principal = require_principal(info, Scope.READ, Scope.EMBED)
        job = ids.decode_as("EmbeddingJob", job_id, ("job_id",))
        history = info.context.services.job_history
        # Asked before the stream begins, so that a refusal is an error and not an event.
        await history.has_more(principal.user_id, job, after)
        return _events(history.subscribe(principal.user_id, job, after), partial(job_event, job))

    @strawberry.subscription(
        description="What happens to a training: from its first event, or after a cursor, until the job has "
        "ended. Needs READ or TRAIN."
    )
    async def training_events(
        self,
        info: Info,
        job_id: Annotated[strawberry.ID, strawberry.argument(description="The training.")],
        after: Annotated[
            str | None, strawberry.argument(description="The cursor of the last event that was seen.")
        ] = None,
    ) -> AsyncGenerator[TrainingEvent, None]:
        """Check that the training is the caller's, then follow it."""
        principal = require_principal(info, Scope.READ, Scope.TRAIN)
        job = ids.decode_as("TrainingJob", job_id, ("job_id",))
        history = info.context.services.job_history
        await history.has_more(principal.user_id, job, after, kind=TRAINING)
        records = history.subscribe(principal.user_id, job, after, kind=TRAINING)
        return _events(records, partial(training_event, job))


async def _events(
    records: AsyncGenerator[JobEventRecord, None], reshape: Callable[[JobEventRecord], E]
) -> AsyncGenerator[E, None]:
    async with aclosing(records):
        async for record in records:
            yield reshape(record)
