"""What things cost."""

from typing import Self

import strawberry

from server.graphql.scalars import Long
from server.records import UsageRecord


@strawberry.type(description="What something cost.")
class Usage:
    """Counts of work done."""

    requests: Long = strawberry.field(description="Requests that were answered.")
    items: Long = strawberry.field(description="Texts and files embedded.")
    tokens: Long = strawberry.field(description="Model tokens read.")
    bytes: Long = strawberry.field(description="Bytes of input.")
    compute_seconds: float = strawberry.field(description="CPU or device seconds spent.")

    @classmethod
    def of(cls, record: UsageRecord) -> Self:
        """Reshape a service's record."""
        return cls(
            requests=Long(record.requests),
            items=Long(record.items),
            tokens=Long(record.tokens),
            bytes=Long(record.bytes),
            compute_seconds=record.compute_s,
        )
