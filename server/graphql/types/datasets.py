"""Data sets, and what was found in them."""

from datetime import datetime
from typing import Annotated, Self

import strawberry

from server.errors import InvalidInput
from server.graphql import ids
from server.graphql.context import Info
from server.graphql.scalars import Long
from server.graphql.types.enums import DatasetKind, DatasetStatus, Modality
from server.graphql.types.node import Node
from server.training_records import DatasetIssueRecord, DatasetRecord

#: Issues that are kept of a data set.
MAX_ISSUES = 1000


@strawberry.type(description="What is wrong with a row of a data set, or with the whole of it.")
class DatasetIssue:
    """One issue."""

    row: Long | None = strawberry.field(
        description="The row, counted from 1 as its file counts; null for the whole."
    )
    message: str = strawberry.field(description="One sentence for a person.")


@strawberry.type(description="How many rows of a data set have a class.")
class ClassCount:
    """One class."""

    name: str = strawberry.field(description="The class.")
    count: Long = strawberry.field(description="Its rows.")


@strawberry.type(description="Rows to train on.")
class Dataset(Node):
    """A data set of the account."""

    name: str = strawberry.field(description="The name it was given.")
    version_number: int = strawberry.field(description="Counts the data sets of this name, from 1.")
    status: DatasetStatus = strawberry.field(description="Whether it can be trained on.")
    kind: DatasetKind | None = strawberry.field(
        description="What a row is. Null while it is looked at, as are the fields below."
    )
    modality: Modality | None = strawberry.field(description="What kind of thing a row is, if we know.")
    row_count: Long | None = strawberry.field(description="Rows that can be trained on.")
    classes: list[str] | None = strawberry.field(description="The classes of its rows, by number from 0.")
    class_counts: list[ClassCount] | None = strawberry.field(description="Rows of each class.")
    unlabelled_count: Long | None = strawberry.field(description="Rows without a class.")
    train_count: Long | None = strawberry.field(description="Rows that are trained on.")
    test_count: Long | None = strawberry.field(description="Rows that are kept for testing.")
    shape: list[int] | None = strawberry.field(
        description="Height, width and channels where all pictures have the same; how many numbers a row has."
    )
    content_sha256: str | None = strawberry.field(
        description="SHA-256 of the rows' content in their order, in hex: the same rows have the same one, "
        "however they came packed."
    )
    issue_count: Long = strawberry.field(
        description="Issues that were found, also those beyond the first 1,000."
    )
    created_at: datetime = strawberry.field(description="When it was made.")
    preview_url: str | None = strawberry.field(
        description="Some of its rows to look at, for its owner: a path on this host. A picture, or JSON."
    )
    found: strawberry.Private[list[DatasetIssueRecord]]

    @strawberry.field(description="What is wrong with it, the first 1,000 rows that have something.")
    def issues(
        self,
        info: Info,
        first: Annotated[int, strawberry.argument(description="How many at most, 1 to 1,000.")] = MAX_ISSUES,
    ) -> list[DatasetIssue]:
        """Return the issues; they count as nodes of the answer, since there may be many."""
        if not 1 <= first <= MAX_ISSUES:
            raise InvalidInput(f"From 1 to {MAX_ISSUES}.", path=("first",))
        found = self.found[:first]
        info.context.spend(len(found))
        return [
            DatasetIssue(row=None if issue.row is None else Long(issue.row), message=issue.message)
            for issue in found
        ]

    @classmethod
    def of(cls, record: DatasetRecord) -> Self:
        """Reshape a service's record."""
        is_known = record.status is not DatasetStatus.VALIDATING
        is_ready = record.status is DatasetStatus.READY
        counts = zip(record.classes, record.class_counts, strict=False)
        return cls(
            id=ids.encode("Dataset", record.id),
            name=record.name,
            version_number=record.version,
            status=record.status,
            kind=record.kind,
            modality=record.modality,
            row_count=None if record.num_rows is None else Long(record.num_rows),
            classes=record.classes if is_known else None,
            class_counts=[ClassCount(name=name, count=Long(count)) for name, count in counts]
            if is_known
            else None,
            unlabelled_count=Long(record.num_unlabelled) if is_known else None,
            train_count=Long(record.num_train) if is_known else None,
            test_count=Long(record.num_test) if is_known else None,
            shape=record.shape,
            content_sha256=record.sha256,
            issue_count=Long(record.num_issues),
            created_at=record.created_at,
            preview_url=f"/v1/datasets/{record.id}/preview" if is_ready else None,
            found=record.issues,
        )
