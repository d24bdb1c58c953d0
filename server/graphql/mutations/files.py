"""Uploading."""

from collections.abc import AsyncIterator
from typing import Annotated

import strawberry
from litestar.datastructures import UploadFile

from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.scalars import Upload
from server.graphql.types.errors import (
    Busy,
    Forbidden,
    InvalidInput,
    PayloadTooLarge,
    RateLimited,
    UnsupportedMedia,
)
from server.graphql.types.files import File

_CHUNK_BYTES = 256 * 1024


@strawberry.input(description="A file to keep.")
class UploadFileInput:
    """Arguments of uploadFile."""

    file: Upload = strawberry.field(description="The file part.")


@strawberry.type(description="The kept file.")
class UploadFilePayload:
    """Answer of uploadFile."""

    file: File = strawberry.field(description="The file.")


UploadFileResult = Annotated[
    UploadFilePayload | InvalidInput | Forbidden | PayloadTooLarge | UnsupportedMedia | RateLimited | Busy,
    strawberry.union("UploadFileResult", description="The kept file, or why it was not kept."),
]


@strawberry.type
class FileMutations:
    """Files."""

    @strawberry.mutation(
        description="Keep a file. The request is multipart/form-data after the GraphQL multipart request "
        "specification, and carries a header that no plain form can send, such as Authorization."
    )
    async def upload_file(
        self,
        info: Info,
        request: Annotated[UploadFileInput, strawberry.argument(name="input", description="The file.")],
    ) -> UploadFileResult:
        """Store the bytes and find out what they are."""
        principal = require_principal(info)
        upload: UploadFile = request.file
        record = await info.context.services.uploads.store(
            principal, name=upload.filename, chunks=_chunks(upload)
        )
        return UploadFilePayload(file=File.of(record))


async def _chunks(upload: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await upload.read(_CHUNK_BYTES):
        yield chunk
