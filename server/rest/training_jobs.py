"""Trainings over REST: start one, follow it by server-sent events, stop it, go on with it."""

from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED, HTTP_204_NO_CONTENT

from server.auth.principal import Principal, Scope
from server.auth.sockets import SocketRegistry
from server.events import JobHistory
from server.job_cancellations import JobCancellations
from server.lane_rows import TRAINING
from server.records import JobEventRecord, JobStateChangedRecord
from server.rest.attachments import attachment_headers
from server.rest.bodies import check_texts, decode_body, require_json
from server.rest.documents import json_body
from server.rest.event_streams import LastEventId, stream_events
from server.rest.given_ids import dataset_id_of, parent_model_id_of
from server.rest.idempotency import IdempotencyKey, chosen_key
from server.rest.pages import After, First, PageBody, page_body, page_request
from server.rest.trainer_documents import trainer_schema
from server.rest.training_bodies import (
    PATH,
    ResumeBody,
    StartTrainingBody,
    TrainingView,
    training_view,
)
from server.training_jobs import StartTrainingRequest, TrainingJobs
from server.training_records import (
    CheckpointSavedRecord,
    ModelExportedRecord,
    SamplesGeneratedRecord,
    TrainingProgressedRecord,
    TrainingWarnedRecord,
)


class TrainingJobsController(Controller):
    """Models in the making."""

    path = PATH
    tags = ("training",)

    @post(
        status_code=HTTP_202_ACCEPTED,
        summary="Start a training",
        guards=[require_json],
        responses={HTTP_202_ACCEPTED: ResponseSpec(TrainingView, description="It will be run.")},
        operation_class=json_body(StartTrainingBody, fields={"trainer": trainer_schema()}),
    )
    async def start(
        self,
        request: Request[Any, Any, Any],
        principal: NamedDependency[Principal],
        training_jobs: NamedDependency[TrainingJobs],
        idempotency_key: IdempotencyKey = None,
    ) -> Response[TrainingView]:
        """Train a model. Everything that is wrong with the request is said at once, in `problems`."""
        body = decode_body(await request.body(), StartTrainingBody, check=check_texts)
        kind, parameters = body.choice()
        parent = body.parent_model_id
        wanted = StartTrainingRequest(
            name=body.name,
            dataset_id=dataset_id_of(body.dataset_id),
            trainer=kind,
            parameters=parameters,
            seed=body.seed,
            max_steps=body.max_steps,
            max_seconds=body.max_seconds,
            priority=body.priority,
            idempotency_key=chosen_key(body.idempotency_key, idempotency_key),
            parent_model_id=None if parent is None else parent_model_id_of(parent),
        )
        view = training_view(await training_jobs.start(principal, wanted))
        return Response(view, headers={"location": f"{PATH}/{view.id}"})

    @get(summary="List trainings")
    async def list_jobs(
        self,
        principal: NamedDependency[Principal],
        training_jobs: NamedDependency[TrainingJobs],
        first: First = None,
        after: After = None,
    ) -> PageBody[TrainingView]:
        """List the caller's trainings, the newest first."""
        principal.require(Scope.READ, Scope.TRAIN)
        page = await training_jobs.page(principal.user_id, page_request(first, after))
        return page_body(page, training_view)

    @get("/{job_id:uuid}", summary="Get a training")
    async def retrieve(
        self,
        job_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        training_jobs: NamedDependency[TrainingJobs],
    ) -> TrainingView:
        """Describe one training."""
        principal.require(Scope.READ, Scope.TRAIN)
        return training_view(await training_jobs.get(principal.user_id, job_id))

    @post("/{job_id:uuid}/cancel", status_code=HTTP_200_OK, summary="Stop a training")
    async def cancel(
        self,
        job_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        training_jobs: NamedDependency[TrainingJobs],
        job_cancellations: NamedDependency[JobCancellations],
    ) -> TrainingView:
        """Stop a training: a waiting one at once, a running one once its checkpoint is saved.

        A training that has ended answers JOB_FINISHED.
        """
        await job_cancellations.cancel(principal, job_id, kind=TRAINING)
        return training_view(await training_jobs.get(principal.user_id, job_id))

    @post(
        "/{job_id:uuid}/resume",
        status_code=HTTP_202_ACCEPTED,
        summary="Go on with a training",
        guards=[require_json],
        responses={HTTP_202_ACCEPTED: ResponseSpec(TrainingView, description="It will go on.")},
        operation_class=json_body(ResumeBody),
    )
    async def resume(
        self,
        job_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        principal: NamedDependency[Principal],
        training_jobs: NamedDependency[TrainingJobs],
    ) -> TrainingView:
        """Go on from the newest checkpoint of a training that was stopped or has failed.

        With more steps, one that has succeeded goes on too.
        """
        body = decode_body(await request.body(), ResumeBody, check=check_texts)
        return training_view(
            await training_jobs.resume(
                principal, job_id, max_steps=body.max_steps, max_seconds=body.max_seconds
            )
        )

    @get(
        "/{job_id:uuid}/samples/{seq:int}",
        summary="Look at what a training makes",
        media_type="application/octet-stream",
    )
    async def sample(
        self,
        job_id: FromPath[UUID],
        seq: FromPath[int],
        principal: NamedDependency[Principal],
        training_jobs: NamedDependency[TrainingJobs],
    ) -> Stream:
        """Send the picture or text that a `samples_generated` event tells of."""
        principal.require(Scope.READ, Scope.TRAIN)
        media_type, chunks = await training_jobs.sample(principal.user_id, job_id, seq)
        name = f"{job_id}-{seq}.{'png' if media_type == 'image/png' else 'txt'}"
        return Stream(chunks, media_type=media_type, headers=attachment_headers(name))

    @get("/{job_id:uuid}/events", summary="Follow a training", media_type="text/event-stream")
    async def events(
        self,
        job_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        job_history: NamedDependency[JobHistory],
        sockets: NamedDependency[SocketRegistry],
        last_event_id: LastEventId = None,
    ) -> Response[Any]:
        """Send what happens to a training as server-sent events, from the first one on, until it has ended.

        A client that comes back sends the id of the last event it saw and goes on without gap or repeat;
        204 tells it that there is nothing more.
        """
        principal.require(Scope.READ, Scope.TRAIN)
        user_id = principal.user_id
        if not await job_history.has_more(user_id, job_id, last_event_id, kind=TRAINING):
            return Response(None, status_code=HTTP_204_NO_CONTENT)
        events = job_history.subscribe(user_id, job_id, last_event_id, kind=TRAINING)
        return stream_events(events, _describe, principal=principal, sockets=sockets)


def _describe(event: JobEventRecord) -> tuple[str, dict[str, Any]]:
    match event:
        case JobStateChangedRecord():
            return "job_state_changed", {"state": event.state, "reason": event.reason}
        case TrainingProgressedRecord():
            return "training_progressed", {
                "step": event.step,
                "total_steps": event.total_steps,
                "epoch": event.epoch,
                "metrics": event.metrics,
                "eta_seconds": event.eta_s,
                "device": event.device,
            }
        case SamplesGeneratedRecord(text=text):
            url = f"{PATH}/{event.job_id}/samples/{event.seq}" if text is None else None
            return "samples_generated", {"step": event.step, "image_url": url, "text": text}
        case CheckpointSavedRecord():
            return "checkpoint_saved", {"step": event.step}
        case TrainingWarnedRecord():
            return "training_warned", {"step": event.step, "warning": event.code, "message": event.message}
        case ModelExportedRecord():
            return "model_exported", {"model_id": event.model_id}
    raise TypeError(f"{type(event).__name__} has no name here")
