"""Uploaded files."""

from datetime import datetime
from typing import Self

import strawberry

from server.graphql import ids
from server.graphql.scalars import Long
from server.graphql.types.enums import Modality
from server.graphql.types.node import Node
from server.records import FileRecord


@strawberry.type(description="An uploaded file.")
class File(Node):
    """A file of the account."""

    name: str = strawberry.field(description="The name it was uploaded under.")
    media_type: str = strawberry.field(description="What it is, found out from its content.")
    modality: Modality | None = strawberry.field(description="What kind of thing that is, if we know.")
    byte_size: Long = strawberry.field(description="Its size in bytes.")
    sha256: str = strawberry.field(description="SHA-256 of its bytes, in hex.")
    created_at: datetime = strawberry.field(description="When it was uploaded.")
    url: str = strawberry.field(
        description="Where the bytes can be fetched by their owner: a path on this host."
    )

    @classmethod
    def of(cls, record: FileRecord) -> Self:
        """Reshape a service's record."""
        return cls(
            id=ids.encode("File", record.id),
            name=record.name,
            media_type=record.media_type,
            modality=record.modality,
            byte_size=Long(record.byte_size),
            sha256=record.sha256,
            created_at=record.created_at,
            url=f"/v1/files/{record.id}/content",
        )
