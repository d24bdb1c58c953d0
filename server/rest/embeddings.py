"""`/v1/embeddings` and `/v1/models` as OpenAI's clients know them, and embeddings of uploaded files."""

from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK

from server.auth.guards import require_principal
from server.auth.principal import Principal, Scope
from server.deployments import Deployments
from server.disconnects import while_connected
from server.embeddings import Embeddings
from server.errors import NotFound, ServiceError, refusal
from server.pipelines import Pipelines
from server.records import EmbeddingResult, EmbedRequest, ItemFailureRecord, PipelineRecord
from server.rest.bodies import check_input, decode_body, require_json
from server.rest.documents import json_body
from server.rest.openai import (
    CreateEmbeddings,
    EmbeddingList,
    EmbedFiles,
    Encoding,
    Model,
    ModelList,
    encode_rows,
    to_json,
)
from server.selection import AUTO, Selector

_ANSWERS = {HTTP_200_OK: ResponseSpec(EmbeddingList, description="The embeddings, in input order.")}


class EmbeddingsController(Controller):
    """Vectors while the caller waits."""

    path = "/v1/embeddings"
    tags = ("embeddings",)

    @post(
        status_code=HTTP_200_OK,
        summary="Embed texts",
        guards=[require_json],
        responses=_ANSWERS,
        operation_class=json_body(CreateEmbeddings),
    )
    async def create(
        self, request: Request[Any, Any, Any], embeddings: NamedDependency[Embeddings]
    ) -> Response[bytes]:
        """Embed a text or a list of texts; one that can't be embedded refuses the whole request."""
        # Not injected: Litestar makes a task for each dependency where there are several.
        principal = require_principal(request)
        body = decode_body(await request.body(), CreateEmbeddings, check=check_input)
        wanted = EmbedRequest(
            texts=[body.input] if isinstance(body.input, str) else body.input,
            pipeline=body.model,
            dimensions=body.dimensions,
        )
        result = await while_connected(request.receive, embeddings.embed(principal, wanted))
        if result.failures:
            raise _refusal(result.failures[0], "texts")
        return _answer(result, body.encoding_format)

    @post(
        "/files",
        status_code=HTTP_200_OK,
        summary="Embed uploaded files",
        guards=[require_json],
        responses=_ANSWERS,
        operation_class=json_body(EmbedFiles),
    )
    async def create_from_files(
        self, request: Request[Any, Any, Any], embeddings: NamedDependency[Embeddings]
    ) -> Response[bytes]:
        """Embed files by id. One that can't be embedded has no embedding, and is explained in `failures`.

        Where none of them can, the answer is the error of the first.
        """
        principal = require_principal(request)
        body = decode_body(await request.body(), EmbedFiles)
        wanted = EmbedRequest(
            file_ids=[_file_id(index, given) for index, given in enumerate(body.file_ids)],
            pipeline=body.model,
            dimensions=body.dimensions,
        )
        result = await while_connected(request.receive, embeddings.embed(principal, wanted))
        if len(result.failures) == len(body.file_ids):
            raise _refusal(result.failures[0], "file_ids")
        return _answer(result, body.encoding_format)


class ModelsController(Controller):
    """The pipelines that can be used now, under OpenAI's name for them."""

    path = "/v1/models"
    tags = ("embeddings",)

    @get(summary="List models")
    async def list_all(
        self,
        principal: NamedDependency[Principal],
        pipelines: NamedDependency[Pipelines],
        deployments: NamedDependency[Deployments],
    ) -> ModelList:
        """List the pipelines that can be used now. `auto`, which chooses by content, comes first.

        The caller's own deployed models come last.
        """
        principal.require(Scope.READ, Scope.EMBED)
        hosted = await pipelines.list_available()
        deployed = await deployments.list_available(principal.user_id)
        return ModelList(data=[_AUTO_MODEL, *map(_model_of, [*hosted, *deployed])])

    @get("/{name:path}", summary="Get a model")
    async def retrieve(
        self,
        name: FromPath[str],
        principal: NamedDependency[Principal],
        selector: NamedDependency[Selector],
    ) -> Model:
        """Describe one pipeline, whether or not it can be used now."""
        principal.require(Scope.READ, Scope.EMBED)
        wanted = name.removeprefix("/")
        if wanted == AUTO:
            return _AUTO_MODEL
        return _model_of(await selector.get(principal.user_id, wanted))


_AUTO_MODEL = Model(id=AUTO, created=0, description="Chooses the pipeline by the content of the input.")


def _model_of(pipeline: PipelineRecord) -> Model:
    return Model(
        id=pipeline.name,
        # A UUIDv7 starts with the milliseconds since 1970 at which it was made.
        created=(pipeline.id.int >> 80) // 1000,
        modality=pipeline.modality,
        dimension=pipeline.dimension,
        available=pipeline.available,
        description=pipeline.description,
    )


def _answer(result: EmbeddingResult, encoding: Encoding) -> Response[bytes]:
    failed = {failure.index for failure in result.failures}
    rows = encode_rows(result.vectors, encoding)
    answer: dict[str, Any] = {
        "object": "list",
        "model": result.pipeline.name,
        "data": [
            {"object": "embedding", "index": index, "embedding": None if index in failed else row}
            for index, row in enumerate(rows)
        ],
        "usage": {"prompt_tokens": result.usage.tokens, "total_tokens": result.usage.tokens},
    }
    if failed:
        answer["failures"] = [
            {"index": failure.index, "code": failure.code, "message": failure.message}
            for failure in result.failures
        ]
    if result.selection is not None:
        answer["selection"] = {
            "media_type": result.selection.media_type,
            "modality": result.selection.modality,
            "confidence": result.selection.confidence,
            "reason": result.selection.reason,
        }
    return Response(to_json(answer), media_type=MediaType.JSON)


def _refusal(failure: ItemFailureRecord, field: str) -> ServiceError:
    return refusal(failure.code, failure.message, path=(field, str(failure.index)))


def _file_id(index: int, given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError as error:
        raise NotFound("There is no such file.", path=("file_ids", str(index))) from error
