"""Trained models over REST: cards, files, deployment."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED, HTTP_204_NO_CONTENT
from msgspec import Meta

from bus.messages import GenerationSpec
from server.auth.principal import Principal, Scope
from server.deployments import Deployments
from server.generations import GenerateRequest, Generations
from server.models import Models
from server.records import Modality, PipelineRecord
from server.rest.attachments import attachment_headers
from server.rest.bodies import check_texts, decode_body, require_json
from server.rest.documents import json_body
from server.rest.generations import PATH as GENERATIONS_PATH
from server.rest.generations import GenerationView, generation_view
from server.rest.idempotency import IdempotencyKey, chosen_key
from server.rest.pages import After, First, PageBody, page_body, page_request
from server.rest.trainer_documents import parameters_schema
from server.training_records import ModelRecord, TrainerKind

_PATH = "/v1/training/models"


class DeployBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The name of a pipeline."""

    name: Annotated[
        str,
        Meta(
            description="What follows `model/`: 1 to 63 of a-z, 0-9, dot, hyphen and underscore. A name in "
            "use gets a new version; deploying the old model again rolls back."
        ),
    ]


class GenerateBody(GenerationSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to make. ``prompt``, ``temperature``, ``top_p`` and ``length`` are for texts."""

    idempotency_key: Annotated[
        str | None, Meta(description="The same key with the same request answers with the same job.")
    ] = None


class DeployedView(msgspec.Struct, frozen=True, kw_only=True):
    """The pipeline that a model answers as, to its owner alone."""

    name: str
    version: str
    available: bool
    #: Why it is not available, when it is not.
    reason: str | None


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """A trained model."""

    id: UUID
    name: str
    trainer: TrainerKind
    modality: Modality | None
    dimension: int
    #: Of the manifest that holds the digests of all its files.
    sha256: str
    generates: Literal["images", "texts"] | None
    metrics: dict[str, float]
    job_id: UUID
    dataset_id: UUID
    #: The model this one was fine-tuned or continued from.
    parent_id: UUID | None
    pipeline: DeployedView | None
    created_at: datetime
    card_url: str
    download_url: str


class TrainedModelsController(Controller):
    """What trainings have made."""

    path = _PATH
    tags = ("training",)

    @get(summary="List trained models")
    async def list_models(
        self,
        principal: NamedDependency[Principal],
        models: NamedDependency[Models],
        first: First = None,
        after: After = None,
    ) -> PageBody[ModelView]:
        """List the caller's models, the newest first."""
        principal.require(Scope.READ, Scope.TRAIN)
        return page_body(await models.page(principal.user_id, page_request(first, after)), _view)

    @get("/{model_id:uuid}", summary="Get a trained model")
    async def retrieve(
        self,
        model_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        models: NamedDependency[Models],
    ) -> ModelView:
        """Describe one model."""
        principal.require(Scope.READ, Scope.TRAIN)
        return _view(await models.get(principal.user_id, model_id))

    @post(
        "/{model_id:uuid}/deploy",
        status_code=HTTP_200_OK,
        summary="Deploy a model",
        guards=[require_json],
        operation_class=json_body(DeployBody),
    )
    async def deploy(
        self,
        model_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        principal: NamedDependency[Principal],
        deployments: NamedDependency[Deployments],
    ) -> ModelView:
        """Let a model answer `/v1/embeddings` as `model/<name>`, to its owner alone."""
        body = decode_body(await request.body(), DeployBody, check=check_texts)
        return _view(await deployments.deploy(principal, model_id, body.name))

    @post("/{model_id:uuid}/retire", status_code=HTTP_200_OK, summary="Retire a model")
    async def retire(
        self,
        model_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        deployments: NamedDependency[Deployments],
    ) -> ModelView:
        """Let a model answer no longer; it stays."""
        return _view(await deployments.retire(principal, model_id))

    @post(
        "/{model_id:uuid}/generate",
        status_code=HTTP_202_ACCEPTED,
        summary="Generate pictures or texts",
        guards=[require_json],
        responses={HTTP_202_ACCEPTED: ResponseSpec(GenerationView, description="It will be run.")},
        operation_class=json_body(GenerateBody, fields=parameters_schema(GenerationSpec).properties),
    )
    async def generate(
        self,
        model_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        principal: NamedDependency[Principal],
        generations: NamedDependency[Generations],
        idempotency_key: IdempotencyKey = None,
    ) -> Response[GenerationView]:
        """Let a model make pictures or texts while nobody waits; they become files of the account."""
        values = msgspec.structs.asdict(decode_body(await request.body(), GenerateBody, check=check_texts))
        key = chosen_key(values.pop("idempotency_key"), idempotency_key)
        wanted = GenerateRequest(model_id=model_id, spec=GenerationSpec(**values), idempotency_key=key)
        view = generation_view(await generations.create(principal, wanted))
        return Response(view, headers={"location": f"{GENERATIONS_PATH}/{view.id}"})

    @get("/{model_id:uuid}/card", summary="Read a model's card", media_type="text/markdown")
    async def card(
        self,
        model_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        models: NamedDependency[Models],
    ) -> Response[bytes]:
        """Send what the model is, how it was made and how good it is, as Markdown."""
        principal.require(Scope.READ, Scope.TRAIN)
        card = await models.card(principal.user_id, model_id)
        headers = attachment_headers(f"{model_id}.md", len(card))
        return Response(card, media_type="text/markdown; charset=utf-8", headers=headers)

    @get("/{model_id:uuid}/download", summary="Download a model", media_type="application/zip")
    async def download(
        self,
        model_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        models: NamedDependency[Models],
    ) -> Stream:
        """Send all files of a model as one zip."""
        principal.require(Scope.READ, Scope.TRAIN)
        chunks = await models.download(principal.user_id, model_id)
        headers = attachment_headers(f"{model_id}.zip")
        return Stream(chunks, media_type="application/zip", headers=headers)

    @delete("/{model_id:uuid}", status_code=HTTP_204_NO_CONTENT, summary="Delete a model")
    async def remove(
        self,
        model_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        models: NamedDependency[Models],
    ) -> None:
        """Delete one model and its files. CONFLICT while it is deployed or a job needs it."""
        await models.delete(principal, model_id)


def _view(record: ModelRecord) -> ModelView:
    url = f"{_PATH}/{record.id}"
    return ModelView(
        id=record.id,
        name=record.name,
        trainer=record.trainer,
        modality=record.modality,
        dimension=record.dimension,
        sha256=record.sha256,
        generates=record.generates,
        metrics=record.metrics,
        job_id=record.job_id,
        dataset_id=record.dataset_id,
        parent_id=record.parent_id,
        pipeline=_deployed(record.pipeline) if record.pipeline else None,
        created_at=record.created_at,
        card_url=f"{url}/card",
        download_url=f"{url}/download",
    )


def _deployed(pipeline: PipelineRecord) -> DeployedView:
    return DeployedView(
        name=pipeline.name,
        version=pipeline.version,
        available=pipeline.available,
        reason=pipeline.reason,
    )
