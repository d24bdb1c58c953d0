"""What the services of training hand to the faces: data sets, trainings, models and what happens to them."""

from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from bus.messages import GenerationSpec
from server.errors import ErrorCode
from server.records import FileRecord, JobEventRecord, JobState, Modality, PipelineRecord, Record


class DatasetStatus(StrEnum):
    """Whether a data set can be trained on."""

    VALIDATING = "VALIDATING"
    READY = "READY"
    INVALID = "INVALID"


class DatasetKind(StrEnum):
    """What a row of a data set is."""

    IMAGES = "images"
    TEXTS = "texts"
    TAGGED = "tagged"
    PAIRS = "pairs"
    NUMBERS = "numbers"


class TrainerKind(StrEnum):
    """Which trainer."""

    GAN = "GAN"
    AUTOENCODER = "AUTOENCODER"
    RNN = "RNN"
    SEMI_SUPERVISED = "SEMI_SUPERVISED"
    FINE_TUNE = "FINE_TUNE"


class DatasetIssueRecord(Record, frozen=True):
    """What is wrong with a row, or with the whole where there is no row."""

    row: int | None
    message: str


class DatasetRecord(Record, frozen=True):
    """A data set. What was found in it is empty while it is VALIDATING."""

    id: UUID
    user_id: UUID
    name: str
    version: int
    status: DatasetStatus
    kind: DatasetKind | None
    modality: Modality | None
    sha256: str | None
    num_rows: int | None
    classes: list[str]
    class_counts: list[int]
    num_unlabelled: int
    #: Height, width and channels where all pictures have the same; numbers of a row.
    shape: list[int] | None
    num_train: int
    num_test: int
    issues: list[DatasetIssueRecord]
    num_issues: int
    created_at: datetime


class TrainingJobRecord(Record, frozen=True):
    """One training."""

    id: UUID
    user_id: UUID
    name: str
    trainer: TrainerKind
    state: JobState
    attempt: int
    dataset_id: UUID
    seed: int
    step: int
    total_steps: int
    metrics: dict[str, float]
    eta_s: float | None
    device: str | None
    error_code: ErrorCode | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    #: What it made last.
    model_id: UUID | None


class ModelRecord(Record, frozen=True):
    """A trained model."""

    id: UUID
    user_id: UUID
    job_id: UUID
    name: str
    trainer: TrainerKind
    modality: Modality | None
    dimension: int
    sha256: str
    generates: Literal["images", "texts"] | None
    metrics: dict[str, float]
    dataset_id: UUID
    parent_id: UUID | None
    #: As which pipeline it answers now, if it is deployed.
    pipeline: PipelineRecord | None
    created_at: datetime


class GenerationJobRecord(Record, frozen=True):
    """Pictures or texts that a model makes."""

    id: UUID
    user_id: UUID
    model_id: UUID
    spec: GenerationSpec
    state: JobState
    attempt: int
    error_code: ErrorCode | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    files: list[FileRecord]


class TrainingProgressedRecord(JobEventRecord, frozen=True):
    """The training has come to a step."""

    step: int
    total_steps: int
    epoch: int
    metrics: dict[str, float]
    eta_s: float | None
    device: str


class SamplesGeneratedRecord(JobEventRecord, frozen=True):
    """Something to look at: ``text`` where it is text, else a picture that the faces know the way to."""

    job_id: UUID
    seq: int
    step: int
    name: str
    media_type: str
    text: str | None


class CheckpointSavedRecord(JobEventRecord, frozen=True):
    """From this step the training can go on."""

    step: int


class TrainingWarnedRecord(JobEventRecord, frozen=True):
    """Training goes on, but somebody should look."""

    step: int
    code: str
    message: str


class ModelExportedRecord(JobEventRecord, frozen=True):
    """The model is there."""

    model_id: UUID
