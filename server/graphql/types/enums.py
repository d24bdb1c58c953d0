"""Enums of the schema: the services' own, with descriptions."""

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import TypeVar

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from server.auth.principal import Scope
from server.errors import ErrorCode
from server.records import JobState, Modality
from server.training_records import DatasetKind, DatasetStatus, TrainerKind

E = TypeVar("E", bound=type[Enum])

__all__ = [
    "DatasetKind",
    "DatasetStatus",
    "ErrorCode",
    "GeneratedKind",
    "JobState",
    "Modality",
    "Scope",
    "TrainerKind",
    "VectorEncoding",
    "describe",
]


class VectorEncoding(StrEnum):
    """How vectors are written."""

    FLOAT = "FLOAT"
    BASE64 = "BASE64"


class GeneratedKind(StrEnum):
    """What a model makes."""

    IMAGES = "images"
    TEXTS = "texts"


def describe(enum: E, description: str, values: Mapping[str, str]) -> None:
    """Give a services' enum its face in the schema."""
    strawberry.enum(enum, description=description)
    definition: StrawberryEnumDefinition = enum.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.description = values[value.name]


describe(
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
describe(
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
describe(
    JobState,
    "Where a job is.",
    {
        "QUEUED": "It waits for a worker.",
        "RUNNING": "A worker is at it.",
        "CANCELLING": "It has been told to stop.",
        "SUCCEEDED": "Everything that was asked for is there. Final.",
        "FAILED": "It was given up. Final.",
        "CANCELLED": "It was stopped. Final.",
    },
)
describe(
    Scope,
    "What an API key may do.",
    {
        "EMBED": "Upload files, embed, run embedding jobs and follow them.",
        "TRAIN": "Upload data sets, train, deploy.",
        "READ": "Read everything of the account.",
        "ADMIN": "All of these, and make and revoke API keys.",
    },
)
describe(
    VectorEncoding,
    "How vectors are written.",
    {"FLOAT": "JSON numbers.", "BASE64": "Base64 of little-endian float32, for each row."},
)
describe(
    DatasetStatus,
    "Whether a data set can be trained on.",
    {
        "VALIDATING": "Its rows are being looked at.",
        "READY": "It can be trained on; rows with an issue are left out.",
        "INVALID": "It can't be trained on; its issues say why.",
    },
)
describe(
    DatasetKind,
    "What a row of a data set is.",
    {
        "IMAGES": "A picture, with a class or without.",
        "TEXTS": "A text, with a class or without.",
        "TAGGED": "Words, each with its tag.",
        "PAIRS": "A text and the text it becomes.",
        "NUMBERS": "Numbers, with a class or without.",
    },
)
describe(
    TrainerKind,
    "What is trained.",
    {
        "GAN": "A generator of pictures, against a discriminator that embeds them.",
        "AUTOENCODER": "An encoder and a decoder, for pictures, texts and rows of numbers.",
        "RNN": "An LSTM or a GRU, for texts.",
        "SEMI_SUPERVISED": "A classifier that also learns from rows without a label.",
        "FINE_TUNE": "A hosted model that learns new classes.",
    },
)
describe(
    GeneratedKind,
    "What a model makes.",
    {"IMAGES": "Pictures, as PNG.", "TEXTS": "Texts, in UTF-8."},
)
