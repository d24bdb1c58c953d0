"""Data sets over REST."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.status_codes import HTTP_202_ACCEPTED, HTTP_204_NO_CONTENT
from msgspec import Meta

from server.auth.principal import Principal, Scope
from server.datasets import CreateDatasetRequest, Datasets
from server.records import Modality
from server.rest.attachments import attachment_headers
from server.rest.bodies import check_texts, decode_body, require_json
from server.rest.documents import json_body
from server.rest.given_ids import file_id_of
from server.rest.idempotency import IdempotencyKey, chosen_key
from server.rest.pages import After, First, PageBody, page_body, page_request
from server.training_records import DatasetKind, DatasetRecord, DatasetStatus

_PATH = "/v1/datasets"


class CreateDatasetBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new data set: exactly one of file_id and sample."""

    name: Annotated[str, Meta(description="1 to 200 characters. A name that is in use gets a new version.")]
    file_id: Annotated[
        str | None,
        Meta(
            description="An upload: a zip or tar of class folders or of pictures with an index, NPZ, CSV, "
            "TSV, JSONL, Parquet or plain text."
        ),
    ] = None
    sample: Annotated[str | None, Meta(description="The name of a sample data set, such as digits.")] = None
    idempotency_key: Annotated[
        str | None, Meta(description="The same key with the same request answers with the same data set.")
    ] = None


class IssueView(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a row, counted from 1 as its file counts; null for the whole."""

    row: int | None
    message: str


class DatasetSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A data set. What was found in it is empty while it is VALIDATING."""

    id: UUID
    name: str
    #: Counts the data sets of this name, from 1.
    version: int
    status: DatasetStatus
    kind: DatasetKind | None
    modality: Modality | None
    #: Of the rows' content in their order.
    sha256: str | None
    #: Rows that can be trained on.
    row_count: int | None
    classes: list[str]
    class_counts: dict[str, int]
    unlabelled_count: int
    train_count: int
    test_count: int
    #: Height, width and channels where all pictures have the same; how many numbers a row has.
    shape: list[int] | None
    issue_count: int
    created_at: datetime
    #: Some of its rows to look at, once it is READY.
    preview_url: str | None


class DatasetView(DatasetSummary, frozen=True, kw_only=True):
    """A data set, with the first 1,000 of its issues."""

    issues: list[IssueView]


class DatasetsController(Controller):
    """Rows to train on."""

    path = _PATH
    tags = ("data sets",)

    @post(
        status_code=HTTP_202_ACCEPTED,
        summary="Create a data set",
        guards=[require_json],
        responses={HTTP_202_ACCEPTED: ResponseSpec(DatasetView, description="Its rows will be looked at.")},
        operation_class=json_body(CreateDatasetBody),
    )
    async def create(
        self,
        request: Request[Any, Any, Any],
        principal: NamedDependency[Principal],
        datasets: NamedDependency[Datasets],
        idempotency_key: IdempotencyKey = None,
    ) -> Response[DatasetView]:
        """Make a data set of an upload or a sample. Its `status` says when it can be trained on."""
        body = decode_body(await request.body(), CreateDatasetBody, check=check_texts)
        wanted = CreateDatasetRequest(
            name=body.name,
            file_id=None if body.file_id is None else file_id_of(body.file_id),
            sample=body.sample,
            idempotency_key=chosen_key(body.idempotency_key, idempotency_key),
        )
        view = _view(await datasets.create(principal, wanted))
        return Response(view, headers={"location": f"{_PATH}/{view.id}"})

    @get(summary="List data sets")
    async def list_datasets(
        self,
        principal: NamedDependency[Principal],
        datasets: NamedDependency[Datasets],
        first: First = None,
        after: After = None,
    ) -> PageBody[DatasetSummary]:
        """List the caller's data sets, the newest first."""
        principal.require(Scope.READ, Scope.TRAIN)
        return page_body(await datasets.page(principal.user_id, page_request(first, after)), _summary)

    @get("/{dataset_id:uuid}", summary="Get a data set")
    async def retrieve(
        self,
        dataset_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        datasets: NamedDependency[Datasets],
    ) -> DatasetView:
        """Describe one data set, and what is wrong with its rows."""
        principal.require(Scope.READ, Scope.TRAIN)
        return _view(await datasets.get(principal.user_id, dataset_id))

    @get("/{dataset_id:uuid}/preview", summary="Look into a data set", media_type="application/octet-stream")
    async def preview(
        self,
        dataset_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        datasets: NamedDependency[Datasets],
    ) -> Response[bytes]:
        """Send a picture of some pictures, or some rows as JSON."""
        principal.require(Scope.READ, Scope.TRAIN)
        media_type, content = await datasets.preview(principal.user_id, dataset_id)
        name = f"{dataset_id}.{'png' if media_type == 'image/png' else 'json'}"
        return Response(content, media_type=media_type, headers=attachment_headers(name, len(content)))

    @delete("/{dataset_id:uuid}", status_code=HTTP_204_NO_CONTENT, summary="Delete a data set")
    async def remove(
        self,
        dataset_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        datasets: NamedDependency[Datasets],
    ) -> None:
        """Delete one data set; models that were trained on it stay. CONFLICT while a job needs it."""
        await datasets.delete(principal, dataset_id)


def _summary(record: DatasetRecord) -> DatasetSummary:
    is_ready = record.status is DatasetStatus.READY
    return DatasetSummary(
        id=record.id,
        name=record.name,
        version=record.version,
        status=record.status,
        kind=record.kind,
        modality=record.modality,
        sha256=record.sha256,
        row_count=record.num_rows,
        classes=record.classes,
        class_counts=dict(zip(record.classes, record.class_counts, strict=False)),
        unlabelled_count=record.num_unlabelled,
        train_count=record.num_train,
        test_count=record.num_test,
        shape=record.shape,
        issue_count=record.num_issues,
        created_at=record.created_at,
        preview_url=f"{_PATH}/{record.id}/preview" if is_ready else None,
    )


def _view(record: DatasetRecord) -> DatasetView:
    return DatasetView(
        **msgspec.structs.asdict(_summary(record)),
        issues=[IssueView(row=issue.row, message=issue.message) for issue in record.issues],
    )
