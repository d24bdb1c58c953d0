"""What was found in a data set, as ``datasets.facts`` keeps it: the worker's last report, whole."""

from typing import Any

import msgspec

from bus.messages import DatasetSplit, DatasetValidated, RowIssue, WorkFailed
from server.records import Modality
from server.training_records import DatasetIssueRecord, DatasetKind, DatasetRecord, DatasetStatus

_ISSUE_CHARACTERS = 160
#: What a data set is left with whose validation was cancelled.
LOOK_CANCELLED = "The look at its rows was cancelled."


def encode_facts(report: DatasetValidated) -> bytes:
    """Write a report as it is stored."""
    return msgspec.msgpack.encode(report)


def decode_facts(raw: bytes) -> DatasetValidated:
    """Read what `encode_facts` has written.

    Raises:
        msgspec.DecodeError: these are no facts.
    """
    return msgspec.msgpack.decode(raw, type=DatasetValidated)


def unusable(job_id: str, attempt: int, message: str, *, row: int | None = None) -> DatasetValidated:
    """Return the report of a data set that nobody could look at to the end, with the reason as its issue."""
    issue = RowIssue(row=row, message=message[:_ISSUE_CHARACTERS])
    return DatasetValidated(
        job_id=job_id,
        attempt=attempt,
        number=1,
        dataset=None,
        kind=None,
        modality=None,
        num_rows=0,
        classes=[],
        class_counts=[],
        num_unlabelled=0,
        splits=[],
        issues=[issue],
        num_issues=1,
    )


def unusable_after(failure: WorkFailed) -> DatasetValidated:
    """Return the report of a data set whose validation has failed."""
    return unusable(failure.job_id, failure.attempt, failure.message, row=failure.row)


def first_issue(dataset: DatasetRecord) -> str:
    """Return in a sentence what is wrong with a data set that is INVALID."""
    if not dataset.issues:
        return "The data set can't be trained on."
    [issue, *_] = dataset.issues
    return issue.message if issue.row is None else f"Row {issue.row}: {issue.message}"


def dataset_record(row: dict[str, Any]) -> DatasetRecord:
    """Return the record of a row of ``datasets``, all columns of it.

    Raises:
        msgspec.DecodeError: its facts can't be read.
    """
    facts = None if row["facts"] is None else decode_facts(row["facts"])
    return DatasetRecord(
        id=row["id"],
        user_id=row["user_id"],
        name=row["name"],
        version=row["version"],
        status=DatasetStatus(row["status"]),
        kind=None if row["kind"] is None else DatasetKind(row["kind"]),
        modality=None if row["modality"] is None else Modality(row["modality"]),
        sha256=row["sha256"],
        num_rows=row["num_rows"],
        classes=row["classes"],
        class_counts=row["class_counts"],
        num_unlabelled=row["num_unlabelled"],
        shape=None if facts is None else facts.shape,
        num_train=0 if facts is None else _rows_of(facts.splits, "train"),
        num_test=0 if facts is None else _rows_of(facts.splits, "test"),
        issues=[]
        if facts is None
        else [DatasetIssueRecord(row=issue.row, message=issue.message) for issue in facts.issues],
        num_issues=row["num_issues"],
        created_at=row["created_at"],
    )


def _rows_of(splits: list[DatasetSplit], name: str) -> int:
    return sum(split.num_rows for split in splits if split.name == name)
