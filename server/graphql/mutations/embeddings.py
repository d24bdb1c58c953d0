"""Embedding, at once or as a job."""

from typing import Annotated
from uuid import UUID

import strawberry

from server.graphql import ids
from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.types.embeddings import EmbeddingBatch
from server.graphql.types.enums import VectorEncoding
from server.graphql.types.errors import (
    Busy,
    Conflict,
    DatasetInvalid,
    Forbidden,
    InvalidInput,
    JobFinished,
    NotFound,
    PayloadTooLarge,
    PipelineUnavailable,
    RateLimited,
    TimedOut,
    UnsupportedMedia,
)
from server.graphql.types.jobs import EmbeddingJob
from server.job_inputs import CreateJobRequest
from server.records import EmbedRequest

AUTO = "auto"


@strawberry.input(
    description="Exactly one of texts and fileIds, 1 to 2,048 inputs. `auto` takes one pipeline for all of "
    "them; where their kinds differ the answer is INVALID_INPUT with the path of the first that differs."
)
class EmbedInput:
    """Arguments of embed."""

    texts: list[str] | None = strawberry.field(default=None, description="Texts to embed.")
    file_ids: list[strawberry.ID] | None = strawberry.field(default=None, description="Files to embed.")
    pipeline: str | None = strawberry.field(
        default=AUTO, description="The name of a pipeline, or `auto` to choose by content."
    )
    encoding: VectorEncoding | None = strawberry.field(
        default=VectorEncoding.FLOAT, description="How the vectors are written."
    )
    dimensions: int | None = strawberry.field(
        default=None, description="Cut vectors to this length and make them unit length again."
    )


@strawberry.input(description="Exactly one of texts, fileIds and datasetId.")
class CreateEmbeddingJobInput:
    """Arguments of createEmbeddingJob."""

    texts: list[str] | None = strawberry.field(default=None, description="Texts to embed.")
    file_ids: list[strawberry.ID] | None = strawberry.field(default=None, description="Files to embed.")
    dataset_id: strawberry.ID | None = strawberry.field(
        default=None, description="A data set of pictures or texts, whose rows to embed in their order."
    )
    pipeline: str | None = strawberry.field(
        default=AUTO, description="The name of a pipeline, or `auto` to choose by content."
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="A name for this request: sent again, it answers with the job it made the first time.",
    )


@strawberry.input(description="Which job to stop.")
class CancelJobInput:
    """Arguments of mutations that stop a job."""

    job_id: strawberry.ID = strawberry.field(description="The job.")


@strawberry.type(description="The vectors.")
class EmbedPayload:
    """Answer of embed."""

    embeddings: EmbeddingBatch = strawberry.field(description="The vectors, and how they came about.")


@strawberry.type(description="The job.")
class EmbeddingJobPayload:
    """Answer of mutations on embedding jobs."""

    job: EmbeddingJob = strawberry.field(description="The job as it is now.")


EmbedResult = Annotated[
    EmbedPayload
    | InvalidInput
    | NotFound
    | Forbidden
    | PayloadTooLarge
    | UnsupportedMedia
    | PipelineUnavailable
    | RateLimited
    | Busy
    | TimedOut,
    strawberry.union("EmbedResult", description="Vectors, or why there are none."),
]
EmbeddingJobResult = Annotated[
    EmbeddingJobPayload
    | InvalidInput
    | NotFound
    | Forbidden
    | Conflict
    | JobFinished
    | DatasetInvalid
    | PayloadTooLarge
    | UnsupportedMedia
    | PipelineUnavailable
    | RateLimited
    | Busy,
    strawberry.union("EmbeddingJobResult", description="A job, or why there is none."),
]


@strawberry.type
class EmbeddingMutations:
    """Embedding. An API key needs EMBED."""

    @strawberry.mutation(description="Embed inputs and wait for their vectors. An API key needs EMBED.")
    async def embed(
        self,
        info: Info,
        request: Annotated[EmbedInput, strawberry.argument(name="input", description="What to embed.")],
    ) -> EmbedResult:
        """Embed now."""
        principal = require_principal(info)
        wanted = EmbedRequest(
            texts=request.texts,
            file_ids=_file_ids(request.file_ids),
            pipeline=AUTO if request.pipeline is None else request.pipeline,
            dimensions=request.dimensions,
        )
        context = info.context
        result = await context.while_wanted(context.services.embeddings.embed(principal, wanted))
        encoding = request.encoding or VectorEncoding.FLOAT
        return EmbedPayload(embeddings=EmbeddingBatch.of(result, encoding))

    @strawberry.mutation(
        description="Embed many inputs while nobody waits; follow the job with embeddingJobEvents. An API "
        "key needs EMBED."
    )
    async def create_embedding_job(
        self,
        info: Info,
        request: Annotated[
            CreateEmbeddingJobInput, strawberry.argument(name="input", description="What to embed.")
        ],
    ) -> EmbeddingJobResult:
        """Make a job."""
        principal = require_principal(info)
        dataset = request.dataset_id
        record = await info.context.services.embedding_jobs.create(
            principal,
            CreateJobRequest(
                texts=request.texts,
                file_ids=_file_ids(request.file_ids),
                dataset_id=None if dataset is None else ids.decode_as("Dataset", dataset, ("dataset_id",)),
                pipeline=AUTO if request.pipeline is None else request.pipeline,
                idempotency_key=request.idempotency_key,
            ),
        )
        return EmbeddingJobPayload(job=EmbeddingJob.of(record))

    @strawberry.mutation(
        description="Stop a job. One that waits is CANCELLED at once; one that runs is CANCELLING until its "
        "worker has stopped, within a second or so. What is counted by then stays. An API key needs EMBED."
    )
    async def cancel_embedding_job(
        self,
        info: Info,
        request: Annotated[CancelJobInput, strawberry.argument(name="input", description="Which job.")],
    ) -> EmbeddingJobResult:
        """Stop a job."""
        principal = require_principal(info)
        job_id = ids.decode_as("EmbeddingJob", request.job_id, ("job_id",))
        record = await info.context.services.job_cancellations.cancel(principal, job_id)
        return EmbeddingJobPayload(job=EmbeddingJob.of(record))


def _file_ids(global_ids: list[strawberry.ID] | None) -> list[UUID] | None:
    if global_ids is None:
        return None
    return [
        ids.decode_as("File", global_id, ("file_ids", str(index)))
        for index, global_id in enumerate(global_ids)
    ]
