"""What the services hand to the faces: plain, frozen, typed; no ORM row leaves a service."""

from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar
from uuid import UUID

import msgspec
import numpy as np
import numpy.typing as npt

from bus.messages import DeployedModel
from server.auth.principal import Scope
from server.errors import ErrorCode

T = TypeVar("T")


class Modality(StrEnum):
    """What kind of thing a pipeline embeds."""

    TEXT = "TEXT"
    IMAGE = "IMAGE"
    AUDIO = "AUDIO"
    VIDEO = "VIDEO"
    DOCUMENT = "DOCUMENT"


class JobState(StrEnum):
    """Where a job is. The last three are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether nothing more can happen to the job."""
        return self in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all records."""


class Client(Record, frozen=True):
    """Where a request came from, for session lists and the audit trail."""

    ip_address: str | None = None
    user_agent: str | None = None


class UserRecord(Record, frozen=True):
    """A person with an account."""

    id: UUID
    email: str
    created_at: datetime


class SessionRecord(Record, frozen=True):
    """One log-in."""

    id: UUID
    user_id: UUID
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ip_address: str | None
    user_agent: str | None
    device_name: str | None


class ApiKeyRecord(Record, frozen=True):
    """An API key, without its secret."""

    id: UUID
    user_id: UUID
    name: str
    prefix: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class FileRecord(Record, frozen=True):
    """An uploaded file."""

    id: UUID
    user_id: UUID
    name: str
    media_type: str
    modality: Modality | None
    #: How sure we are of ``media_type``, 0 to 1, and why, for a person.
    confidence: float
    reason: str
    byte_size: int
    sha256: str
    object_key: str
    created_at: datetime


class PipelineRecord(Record, frozen=True):
    """A pipeline that is or was hosted."""

    id: UUID
    name: str
    version: str
    modality: Modality
    dimension: int
    pool: str
    max_tokens: int | None
    auto_rank: int | None
    description: str
    available: bool
    #: Why it is not available, when it is not.
    reason: str | None = None
    #: What embeds, where it is a model that its owner has deployed.
    model: DeployedModel | None = None


class SelectionRecord(Record, frozen=True):
    """How `auto` chose."""

    pipeline: PipelineRecord
    media_type: str
    modality: Modality
    confidence: float
    reason: str


class UsageRecord(Record, frozen=True):
    """What something cost."""

    requests: int = 0
    items: int = 0
    tokens: int = 0
    bytes: int = 0
    compute_s: float = 0.0


class ItemFailureRecord(Record, frozen=True):
    """Why one input has no vector."""

    index: int
    code: ErrorCode
    message: str


class EmbedRequest(Record, frozen=True):
    """Exactly one of ``texts`` and ``file_ids``. ``pipeline`` is a name or ``auto``."""

    texts: list[str] | None = None
    file_ids: list[UUID] | None = None
    pipeline: str = "auto"
    dimensions: int | None = None


class EmbeddingResult(msgspec.Struct, frozen=True, kw_only=True):
    """One row an input, in input order, of unit length.

    ``vectors`` has shape (len(inputs), dimension), float32; rows of failed items are zero and their
    indices are in ``failures``.
    """

    pipeline: PipelineRecord
    selection: SelectionRecord | None
    dimension: int
    vectors: npt.NDArray[np.float32]
    cached: list[bool]
    truncated: list[bool]
    failures: list[ItemFailureRecord]
    usage: UsageRecord


class EmbeddingJobRecord(Record, frozen=True):
    """One embedding job."""

    id: UUID
    user_id: UUID
    state: JobState
    attempt: int
    pipeline_name: str
    item_count: int
    completed_count: int
    failed_count: int
    dimension: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error_code: ErrorCode | None
    error_message: str | None


class JobEventRecord(Record, frozen=True):
    """The base of what a subscriber sees. ``cursor`` is what `after` takes."""

    cursor: str
    at: datetime
    attempt: int


class JobStateChangedRecord(JobEventRecord, frozen=True):
    """The job entered a state."""

    state: JobState
    reason: str | None = None


class ItemEmbeddedRecord(JobEventRecord, frozen=True):
    """One vector of a job: shape (dimension,), float32."""

    index: int
    vector: npt.NDArray[np.float32]


class ItemFailedRecord(JobEventRecord, frozen=True):
    """One input of a job has no vector."""

    index: int
    code: ErrorCode
    message: str


class PageRequest(Record, frozen=True):
    """Relay paging: ``first`` with ``after`` or ``last`` with ``before``, 1 to 100; cursors are opaque."""

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Some rows of a keyset, newest first, each with its cursor."""

    items: list[T]
    cursors: list[str]
    has_next: bool
    has_previous: bool
    total: int | None = None
