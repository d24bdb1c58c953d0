"""Enums of the schema: the services' own, with descriptions."""

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import TypeVar

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from server.auth.principal import Scope
from server.errors import ErrorCode
from server.records import JobState, Modality

E = TypeVar("E", bound=type[Enum])

__all__ = ["ErrorCode", "JobState", "Modality", "Scope", "VectorEncoding"]


class VectorEncoding(StrEnum):
    """How vectors are written."""

    FLOAT = "FLOAT"
    BASE64 = "BASE64"


def _describe(enum: E, description: str, values: Mapping[str, str]) -> None:
    """Give a services' enum its face in the schema."""
    strawberry.enum(enum, description=description)
    definition: StrawberryEnumDefinition = enum.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.description = values[value.name]


_describe(
    ErrorCode,
    "Why something was refused, for programs.",
    {
        "INVALID_INPUT": "A value can't be used; `path` says which.",
        "INVALID_CREDENTIALS": "The address and the password don't belong together.",
        "UNAUTHENTICATED": "No credential, or one that is malformed, unknown, expired or revoked.",
        "FORBIDDEN": "The credential lacks the scope.",
        "NOT_FOUND": "There is no such thing, or it is somebody else's.",
        "CONFLICT": "The state of the thing does not allow it.",
        "RATE_LIMITED": "Too many requests; try again later.",
        "QUOTA_EXCEEDED": "The account has used up what it may use.",
        "PAYLOAD_TOO_LARGE": "Over a documented size limit.",
        "UNSUPPORTED_MEDIA": "We know what it is, and don't serve it.",
        "PIPELINE_UNAVAILABLE": "No worker hosts the pipeline now.",
        "DATASET_INVALID": "The data set can't be trained on.",
        "JOB_FINISHED": "The job has ended.",
        "BUSY": "All places are taken; try again in a moment.",
        "TIMEOUT": "It took too long.",
        "QUERY_LIMIT": "The query itself is too large.",
        "INTERNAL": "A fault of ours; `id` names it for a report.",
    },
)
_describe(
    Modality,
    "What kind of thing a pipeline embeds.",
    {
        "TEXT": "Written language.",
        "IMAGE": "A picture; of a moving one the first frame.",
        "AUDIO": "Sound.",
        "VIDEO": "Moving pictures.",
        "DOCUMENT": "Pages, such as PDF.",
    },
)
_describe(
    JobState,
    "Where a job is.",
    {
        "QUEUED": "It waits for a worker.",
        "RUNNING": "A worker is at it.",
        "CANCELLING": "It has been told to stop.",
        "SUCCEEDED": "Every item has its answer. Final.",
        "FAILED": "It was given up. Final.",
        "CANCELLED": "It was stopped. Final.",
    },
)
_describe(
    Scope,
    "What an API key may do.",
    {
        "EMBED": "Upload files, embed, run embedding jobs and follow them.",
        "TRAIN": "Upload data sets, train, deploy.",
        "READ": "Read everything of the account.",
        "ADMIN": "All of these, and make and revoke API keys.",
    },
)
_describe(
    VectorEncoding,
    "How vectors are written.",
    {"FLOAT": "JSON numbers.", "BASE64": "Base64 of little-endian float32, for each row."},
)
