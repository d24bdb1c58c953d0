"""Letting models make pictures and texts."""

from typing import Annotated

import strawberry

from bus.messages import GenerationSpec
from server.generations import GenerateRequest
from server.graphql import ids
from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.mutations.embeddings import CancelJobInput
from server.graphql.types.errors import (
    Busy,
    Conflict,
    Forbidden,
    InvalidInput,
    JobFinished,
    NotFound,
    QuotaExceeded,
    RateLimited,
)
from server.graphql.types.generations import GenerationJob
from server.graphql.types.trainers import fields_of, given
from server.lane_rows import GENERATION


@strawberry.input(
    description="What to make. `prompt`, `temperature`, `topP` and `length` are for texts, `label` is for "
    "pictures."
)
@fields_of(GenerationSpec, {})
class GenerateInput:
    """Arguments of generate."""

    model_id: strawberry.ID = strawberry.field(description="What makes it: a model that generates.")
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="A name for this request: sent again, it answers with the job it made the first time.",
    )


@strawberry.type(description="The generation.")
class GenerationJobPayload:
    """Answer of mutations on generations."""

    job: GenerationJob = strawberry.field(description="The generation as it is now.")


GenerationJobResult = Annotated[
    GenerationJobPayload
    | InvalidInput
    | NotFound
    | Forbidden
    | Conflict
    | JobFinished
    | QuotaExceeded
    | RateLimited
    | Busy,
    strawberry.union("GenerationJobResult", description="A generation, or why there is none."),
]


@strawberry.type
class GenerationMutations:
    """Generations. An API key needs TRAIN."""

    @strawberry.mutation(
        description="Let a model make pictures or texts while nobody waits; they become files of the "
        "account. An API key needs TRAIN."
    )
    async def generate(
        self,
        info: Info,
        request: Annotated[GenerateInput, strawberry.argument(name="input", description="What to make.")],
    ) -> GenerationJobResult:
        """Start a generation."""
        principal = require_principal(info)
        values = given(request)
        model_id = ids.decode_as("Model", values.pop("model_id"), ("model_id",))
        key = values.pop("idempotency_key")
        wanted = GenerateRequest(model_id=model_id, spec=GenerationSpec(**values), idempotency_key=key)
        record = await info.context.services.generations.create(principal, wanted)
        return GenerationJobPayload(job=GenerationJob.of(record))

    @strawberry.mutation(
        description="Stop a generation. One that waits is CANCELLED at once. An API key needs TRAIN."
    )
    async def cancel_generation(
        self,
        info: Info,
        request: Annotated[
            CancelJobInput, strawberry.argument(name="input", description="Which generation.")
        ],
    ) -> GenerationJobResult:
        """Stop a generation."""
        principal = require_principal(info)
        services = info.context.services
        job_id = ids.decode_as("GenerationJob", request.job_id, ("job_id",))
        await services.job_cancellations.cancel(principal, job_id, kind=GENERATION)
        record = await services.generations.get(principal.user_id, job_id)
        return GenerationJobPayload(job=GenerationJob.of(record))
