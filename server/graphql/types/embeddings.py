"""Vectors of one request."""

import base64
from typing import Self

import strawberry

from server.graphql.scalars import FloatMatrix, float_matrix
from server.graphql.types.enums import ErrorCode, VectorEncoding
from server.graphql.types.pipelines import Pipeline, PipelineSelection
from server.graphql.types.usage import Usage
from server.records import EmbeddingResult, ItemFailureRecord


@strawberry.type(description="Why one input has no vector.")
class ItemFailure:
    """A failed item."""

    index: int = strawberry.field(description="Which input, counted from 0.")
    code: ErrorCode = strawberry.field(description="For programs.")
    message: str = strawberry.field(description="One sentence for a person.")

    @classmethod
    def of(cls, record: ItemFailureRecord) -> Self:
        """Reshape a service's record."""
        return cls(index=record.index, code=record.code, message=record.message)


@strawberry.type(
    description="One row an input, in input order, of unit length. A failed item is null in every list here "
    "and explained in `failures`."
)
class EmbeddingBatch:
    """The answer to one `embed`."""

    pipeline: Pipeline = strawberry.field(description="What computed the vectors.")
    selection: PipelineSelection | None = strawberry.field(
        description="How `auto` chose; null when the caller named the pipeline."
    )
    dimension: int = strawberry.field(description="The length of each vector.")
    cached: list[bool | None] = strawberry.field(description="Which vectors were known from before.")
    truncated: list[bool | None] = strawberry.field(
        description="Which inputs were too long for the pipeline; only their beginning counts."
    )
    failures: list[ItemFailure] = strawberry.field(description="Why items have no vector.")
    usage: Usage = strawberry.field(description="What this request cost.")
    result: strawberry.Private[EmbeddingResult]
    encoding: strawberry.Private[VectorEncoding]

    @strawberry.field(description="The vectors as numbers. Null when encoding is BASE64.")
    def vectors(self) -> FloatMatrix | None:
        """Hand the array over as it is."""
        if self.encoding is not VectorEncoding.FLOAT:
            return None
        return float_matrix(self.result.vectors, [failure.index for failure in self.failures])

    @strawberry.field(
        name="base64",
        description="The vectors as base64 of little-endian float32. Null when encoding is FLOAT.",
    )
    def base64_rows(self) -> list[str | None] | None:
        """Encode each row by itself."""
        if self.encoding is not VectorEncoding.BASE64:
            return None
        failed = {failure.index for failure in self.failures}
        rows = self.result.vectors.astype("<f4", copy=False)
        return [
            None if index in failed else base64.b64encode(row.tobytes()).decode()
            for index, row in enumerate(rows)
        ]

    @classmethod
    def of(cls, result: EmbeddingResult, encoding: VectorEncoding) -> Self:
        """Reshape a service's result."""
        failed = {failure.index for failure in result.failures}
        return cls(
            pipeline=Pipeline.of(result.pipeline),
            selection=PipelineSelection.of(result.selection) if result.selection else None,
            dimension=result.dimension,
            cached=_without(result.cached, failed),
            truncated=_without(result.truncated, failed),
            failures=[ItemFailure.of(failure) for failure in result.failures],
            usage=Usage.of(result.usage),
            result=result,
            encoding=encoding,
        )


def _without(values: list[bool], failed: set[int]) -> list[bool | None]:
    if not failed:
        return list(values)
    return [None if index in failed else value for index, value in enumerate(values)]
