"""Files over REST: multipart in, attachments out."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, delete, get, post
from litestar.di import NamedDependency
from litestar.exceptions import InternalServerException
from litestar.params import FromPath
from litestar.response import Stream
from litestar.status_codes import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from server.auth.principal import Principal, Scope
from server.disconnects import ClientGone
from server.errors import ServiceError
from server.records import FileRecord, Modality
from server.rest.attachments import attachment_headers
from server.rest.documents import file_form
from server.rest.multipart import drain, open_file_part
from server.rest.pages import After, First, PageBody, page_body, page_request
from server.selection import Selector
from server.uploads import Uploads

_Request = Request[Any, Any, Any]


class FileView(msgspec.Struct, frozen=True, kw_only=True):
    """An uploaded file."""

    id: UUID
    name: str
    media_type: str
    #: None for what no kind of pipeline could embed.
    modality: Modality | None
    confidence: float
    #: Why we think it is of this media type.
    reason: str
    byte_size: int
    sha256: str
    created_at: datetime
    #: Where its owner can fetch the bytes.
    url: str


class SelectionView(msgspec.Struct, frozen=True, kw_only=True):
    """The pipeline `auto` would take, and why."""

    pipeline: str
    media_type: str
    modality: Modality
    confidence: float
    reason: str


class FilesController(Controller):
    """Files of the caller."""

    path = "/v1/files"
    tags = ("files",)

    @post(
        status_code=HTTP_201_CREATED,
        summary="Upload a file",
        # The service has the ceiling; Litestar's own would count the form as well.
        request_max_body_size=None,
        operation_class=file_form("file"),
    )
    async def upload(
        self,
        request: _Request,
        principal: NamedDependency[Principal],
        uploads: NamedDependency[Uploads],
    ) -> FileView:
        """Upload one file as the part `file` of a multipart form."""
        body = _body_of(request)
        try:
            part = await open_file_part(
                request.headers.get("content-type", ""),
                body,
                field="file",
                max_bytes=uploads.max_upload_bytes,
            )
            record = await uploads.store(principal, name=part.name, chunks=part.chunks())
        except ServiceError:
            await drain(body, max_bytes=uploads.max_upload_bytes)
            raise
        await drain(body, max_bytes=uploads.max_upload_bytes)
        return file_view(record)

    @get(summary="List files")
    async def list_files(
        self,
        principal: NamedDependency[Principal],
        uploads: NamedDependency[Uploads],
        first: First = None,
        after: After = None,
    ) -> PageBody[FileView]:
        """List the caller's files, the newest first."""
        principal.require(Scope.READ, Scope.EMBED, Scope.TRAIN)
        return page_body(await uploads.page(principal.user_id, page_request(first, after)), file_view)

    @get("/{file_id:uuid}", summary="Get a file")
    async def retrieve(
        self,
        file_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        uploads: NamedDependency[Uploads],
    ) -> FileView:
        """Describe one file."""
        principal.require(Scope.READ, Scope.EMBED, Scope.TRAIN)
        return file_view(await uploads.get(principal.user_id, file_id))

    @get("/{file_id:uuid}/selection", summary="Which pipeline `auto` takes for a file")
    async def select(
        self,
        file_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        uploads: NamedDependency[Uploads],
        selector: NamedDependency[Selector],
    ) -> SelectionView:
        """Say which pipeline `auto` would take, and why."""
        principal.require(Scope.READ, Scope.EMBED)
        selection = await selector.for_file(await uploads.get(principal.user_id, file_id))
        return SelectionView(
            pipeline=selection.pipeline.name,
            media_type=selection.media_type,
            modality=selection.modality,
            confidence=selection.confidence,
            reason=selection.reason,
        )

    @get("/{file_id:uuid}/content", summary="Download a file", media_type="application/octet-stream")
    async def download(
        self,
        file_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        uploads: NamedDependency[Uploads],
    ) -> Stream:
        """Send the bytes, always as an attachment: what users upload never runs on our origin."""
        principal.require(Scope.READ, Scope.EMBED, Scope.TRAIN)
        record = await uploads.get(principal.user_id, file_id)
        return Stream(
            uploads.stream(record),
            media_type=record.media_type,
            headers=attachment_headers(record.name, record.byte_size),
        )

    @delete("/{file_id:uuid}", status_code=HTTP_204_NO_CONTENT, summary="Delete a file")
    async def remove(
        self,
        file_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        uploads: NamedDependency[Uploads],
    ) -> None:
        """Delete one file. Its bytes go with the last file that has the same."""
        await uploads.delete(principal, file_id)


async def _body_of(request: _Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except InternalServerException as error:
        # What Litestar says when the client hangs up in the middle of the body.
        raise ClientGone from error


def file_view(record: FileRecord) -> FileView:
    """Describe a file."""
    return FileView(
        id=record.id,
        name=record.name,
        media_type=record.media_type,
        modality=record.modality,
        confidence=record.confidence,
        reason=record.reason,
        byte_size=record.byte_size,
        sha256=record.sha256,
        created_at=record.created_at,
        url=f"/v1/files/{record.id}/content",
    )
