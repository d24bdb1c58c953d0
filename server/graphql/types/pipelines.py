"""Pipelines, and how `auto` chooses one."""

from typing import Self

import strawberry

from server.graphql import ids
from server.graphql.types.enums import Modality
from server.graphql.types.node import Node
from server.records import PipelineRecord, SelectionRecord


@strawberry.type(description="A named way from a piece of data to its vector.")
class Pipeline(Node):
    """A pipeline that is or was hosted."""

    name: str = strawberry.field(description="What `pipeline` takes.")
    version: str = strawberry.field(description="Vectors of two versions must not be compared.")
    modality: Modality | None = strawberry.field(description="What it embeds.")
    dimension: int | None = strawberry.field(description="The length of its vectors.")
    max_tokens: int | None = strawberry.field(
        description="Longest input in tokens; what is longer is truncated. Null where there are no tokens."
    )
    description: str = strawberry.field(description="What it is, for a person.")
    available: bool = strawberry.field(description="Whether a worker hosts it now.")
    reason: str | None = strawberry.field(description="Why it is not available, when it is not.")

    @classmethod
    def of(cls, record: PipelineRecord) -> Self:
        """Reshape a service's record."""
        return cls(
            id=ids.encode("Pipeline", record.id),
            name=record.name,
            version=record.version,
            modality=record.modality,
            dimension=record.dimension,
            max_tokens=record.max_tokens,
            description=record.description,
            available=record.available,
            reason=record.reason,
        )


@strawberry.type(description="How `auto` chooses.")
class PipelineSelection:
    """What `auto` took, and why."""

    pipeline: Pipeline = strawberry.field(description="The pipeline it takes.")
    media_type: str = strawberry.field(description="What the content is, after RFC 6838.")
    modality: Modality = strawberry.field(description="What kind of thing that is.")
    confidence: float = strawberry.field(description="How sure of the media type, 0 to 1.")
    reason: str = strawberry.field(description="One sentence for a person.")

    @classmethod
    def of(cls, record: SelectionRecord) -> Self:
        """Reshape a service's record."""
        return cls(
            pipeline=Pipeline.of(record.pipeline),
            media_type=record.media_type,
            modality=record.modality,
            confidence=record.confidence,
            reason=record.reason,
        )
