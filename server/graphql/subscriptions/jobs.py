"""Following a job."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry

from server.auth.principal import Scope
from server.graphql import ids
from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.types.events import EmbeddingJobEvent, job_event
from server.records import JobEventRecord


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
        return _events(history.subscribe(principal.user_id, job, after))


async def _events(records: AsyncGenerator[JobEventRecord, None]) -> AsyncGenerator[EmbeddingJobEvent, None]:
    async with aclosing(records):
        async for record in records:
            yield job_event(record)
