"""Embedding jobs over REST: make one, follow it by server-sent events, fetch its vectors as one file."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED, HTTP_204_NO_CONTENT
from msgspec import Meta

from server.auth.principal import Principal, Scope
from server.auth.sockets import SocketRegistry
from server.embedding_jobs import EmbeddingJobs
from server.errors import ErrorCode, InvalidInput, NotFound
from server.events import JobHistory
from server.job_cancellations import JobCancellations
from server.job_inputs import CreateJobRequest
from server.records import (
    EmbeddingJobRecord,
    ItemEmbeddedRecord,
    ItemFailedRecord,
    JobEventRecord,
    JobState,
    JobStateChangedRecord,
)
from server.rest.attachments import attachment_headers
from server.rest.bodies import check_texts, decode_body, require_json
from server.rest.documents import json_body
from server.rest.event_streams import LastEventId, stream_events
from server.rest.given_ids import dataset_id_of
from server.rest.idempotency import IdempotencyKey, chosen_key
from server.rest.pages import After, First, PageBody, page_body, page_request
from server.selection import AUTO

_PATH = "/v1/jobs"


class CreateJobBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new job: exactly one of texts, file_ids and dataset_id."""

    texts: list[str] | None = None
    file_ids: list[str] | None = None
    dataset_id: Annotated[
        str | None, Meta(description="A data set of pictures or texts, whose rows to embed in their order.")
    ] = None
    pipeline: Annotated[str, Meta(description="A pipeline's name, or `auto`.")] = AUTO
    idempotency_key: Annotated[
        str | None, Meta(description="The same key with the same request answers with the same job.")
    ] = None


class JobError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job has failed."""

    code: ErrorCode
    message: str


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """An embedding job."""

    id: UUID
    state: JobState
    pipeline: str
    dimension: int | None
    attempt: int
    item_count: int
    completed_count: int
    failed_count: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: JobError | None
    events_url: str
    #: All vectors as one .npy file, once the job has succeeded.
    result_url: str | None


class JobsController(Controller):
    """Embeddings of many inputs, while nobody has to wait."""

    path = _PATH
    tags = ("jobs",)

    @post(
        status_code=HTTP_202_ACCEPTED,
        summary="Create a job",
        guards=[require_json],
        responses={HTTP_202_ACCEPTED: ResponseSpec(JobView, description="It will be run, whatever happens.")},
        operation_class=json_body(CreateJobBody),
    )
    async def create(
        self,
        request: Request[Any, Any, Any],
        principal: NamedDependency[Principal],
        embedding_jobs: NamedDependency[EmbeddingJobs],
        idempotency_key: IdempotencyKey = None,
    ) -> Response[JobView]:
        """Embed many texts, files or rows. Once this has answered, the job is run, whatever is restarted."""
        body = decode_body(await request.body(), CreateJobBody, check=_check_job)
        wanted = CreateJobRequest(
            texts=body.texts,
            file_ids=None
            if body.file_ids is None
            else [_file_id(*given) for given in enumerate(body.file_ids)],
            dataset_id=None if body.dataset_id is None else dataset_id_of(body.dataset_id),
            pipeline=body.pipeline,
            idempotency_key=chosen_key(body.idempotency_key, idempotency_key),
        )
        view = _view(await embedding_jobs.create(principal, wanted))
        return Response(view, headers={"location": f"{_PATH}/{view.id}"})

    @get(summary="List jobs")
    async def list_jobs(
        self,
        principal: NamedDependency[Principal],
        embedding_jobs: NamedDependency[EmbeddingJobs],
        first: First = None,
        after: After = None,
    ) -> PageBody[JobView]:
        """List the caller's jobs, the newest first."""
        principal.require(Scope.READ, Scope.EMBED)
        return page_body(await embedding_jobs.page(principal.user_id, page_request(first, after)), _view)

    @get("/{job_id:uuid}", summary="Get a job")
    async def retrieve(
        self,
        job_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        embedding_jobs: NamedDependency[EmbeddingJobs],
    ) -> JobView:
        """Describe one job."""
        principal.require(Scope.READ, Scope.EMBED)
        return _view(await embedding_jobs.get(principal.user_id, job_id))

    @post("/{job_id:uuid}/cancel", status_code=HTTP_200_OK, summary="Cancel a job")
    async def cancel(
        self,
        job_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        job_cancellations: NamedDependency[JobCancellations],
    ) -> JobView:
        """Stop a job: a waiting one at once, a running one within a second or so. What is counted stays.

        A job that has ended answers JOB_FINISHED.
        """
        return _view(await job_cancellations.cancel(principal, job_id))

    @get("/{job_id:uuid}/result", summary="Download the vectors", media_type="application/octet-stream")
    async def result(
        self,
        job_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        embedding_jobs: NamedDependency[EmbeddingJobs],
    ) -> Stream:
        """Send one .npy file: float32, a row an input, in input order, NaN where an input has failed."""
        principal.require(Scope.READ, Scope.EMBED)
        byte_size, chunks = await embedding_jobs.result(principal.user_id, job_id)
        return Stream(
            chunks,
            media_type="application/octet-stream",
            headers=attachment_headers(f"{job_id}.npy", byte_size),
        )

    @get("/{job_id:uuid}/events", summary="Follow a job", media_type="text/event-stream")
    async def events(
        self,
        job_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        job_history: NamedDependency[JobHistory],
        sockets: NamedDependency[SocketRegistry],
        last_event_id: LastEventId = None,
    ) -> Response[Any]:
        """Send what happens to a job as server-sent events, from the first one on, until it has ended.

        A client that comes back sends the id of the last event it saw and goes on without gap or repeat;
        204 tells it that there is nothing more.
        """
        principal.require(Scope.READ, Scope.EMBED)
        if not await job_history.has_more(principal.user_id, job_id, last_event_id):
            return Response(None, status_code=HTTP_204_NO_CONTENT)
        events = job_history.subscribe(principal.user_id, job_id, last_event_id)
        return stream_events(events, _describe, principal=principal, sockets=sockets)


def _describe(event: JobEventRecord) -> tuple[str, dict[str, Any]]:
    match event:
        case JobStateChangedRecord():
            return "job_state_changed", {"state": event.state, "reason": event.reason}
        case ItemEmbeddedRecord():
            return "item_embedded", {"index": event.index, "vector": event.vector}
        case ItemFailedRecord():
            return "item_failed", {"index": event.index, "code": event.code, "message": event.message}
    raise TypeError(f"{type(event).__name__} has no name here")


def _check_job(body: dict[str, Any]) -> None:
    """Find a text that is no Unicode in a body that could not be read.

    Raises:
        InvalidInput: there is one; the path is its field, with the index in a list.
    """
    check_texts(body)
    for name, values in body.items():
        for index, value in enumerate(values if isinstance(values, list) else ()):
            try:
                check_texts({name: value})
            except InvalidInput as found:
                raise InvalidInput(found.message, path=(name, str(index))) from found


def _file_id(index: int, given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError as error:
        raise NotFound("There is no such file.", path=("file_ids", str(index))) from error


def _view(record: EmbeddingJobRecord) -> JobView:
    url = f"{_PATH}/{record.id}"
    error = None
    if record.error_code is not None:
        error = JobError(code=record.error_code, message=record.error_message or "")
    return JobView(
        id=record.id,
        state=record.state,
        pipeline=record.pipeline_name,
        dimension=record.dimension,
        attempt=record.attempt,
        item_count=record.item_count,
        completed_count=record.completed_count,
        failed_count=record.failed_count,
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        error=error,
        events_url=f"{url}/events",
        result_url=f"{url}/result" if record.state == JobState.SUCCEEDED else None,
    )
