"""Generations over REST; ``server.rest.models`` starts them."""

from datetime import datetime
from uuid import UUID

import msgspec
from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK

from server.auth.principal import Principal, Scope
from server.generations import Generations
from server.job_cancellations import JobCancellations
from server.lane_rows import GENERATION
from server.records import JobState
from server.rest.pages import After, First, PageBody, page_body, page_request
from server.rest.training_bodies import FailureView, failure_view
from server.rest.uploads import FileView, file_view
from server.training_records import GenerationJobRecord

PATH = "/v1/training/generations"


class GenerationView(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures or texts that a model makes."""

    id: UUID
    model_id: UUID
    state: JobState
    attempt: int
    count: int
    seed: int
    label: str | None
    prompt: str
    temperature: float
    top_p: float
    length: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: FailureView | None
    #: What it has made, one each.
    files: list[FileView]


class GenerationsController(Controller):
    """What models make."""

    path = PATH
    tags = ("training",)

    @get(summary="List generations")
    async def list_generations(
        self,
        principal: NamedDependency[Principal],
        generations: NamedDependency[Generations],
        first: First = None,
        after: After = None,
    ) -> PageBody[GenerationView]:
        """List the caller's generations, the newest first."""
        principal.require(Scope.READ, Scope.TRAIN)
        page = await generations.page(principal.user_id, page_request(first, after))
        return page_body(page, generation_view)

    @get("/{job_id:uuid}", summary="Get a generation")
    async def retrieve(
        self,
        job_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        generations: NamedDependency[Generations],
    ) -> GenerationView:
        """Describe one generation, and what it has made."""
        principal.require(Scope.READ, Scope.TRAIN)
        return generation_view(await generations.get(principal.user_id, job_id))

    @post("/{job_id:uuid}/cancel", status_code=HTTP_200_OK, summary="Stop a generation")
    async def cancel(
        self,
        job_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        generations: NamedDependency[Generations],
        job_cancellations: NamedDependency[JobCancellations],
    ) -> GenerationView:
        """Stop a generation. One that has ended answers JOB_FINISHED."""
        await job_cancellations.cancel(principal, job_id, kind=GENERATION)
        return generation_view(await generations.get(principal.user_id, job_id))


def generation_view(record: GenerationJobRecord) -> GenerationView:
    """Describe a generation."""
    return GenerationView(
        id=record.id,
        model_id=record.model_id,
        state=record.state,
        attempt=record.attempt,
        **msgspec.structs.asdict(record.spec),
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        error=failure_view(record.error_code, record.error_message),
        files=[file_view(file) for file in record.files],
    )
