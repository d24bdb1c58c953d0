"""What a subscriber of a job sees."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import strawberry

from server.errors import NotFound
from server.graphql.context import Info
from server.graphql.scalars import FloatMatrix, Long, float_matrix
from server.graphql.types.enums import ErrorCode, JobState
from server.graphql.types.training import Metric, Model, metrics_of
from server.records import (
    ItemEmbeddedRecord,
    ItemFailedRecord,
    JobEventRecord,
    JobStateChangedRecord,
)
from server.training_records import (
    CheckpointSavedRecord,
    ModelExportedRecord,
    SamplesGeneratedRecord,
    TrainingProgressedRecord,
    TrainingWarnedRecord,
)


@strawberry.interface(description="Something that happened to a job.")
class JobEvent:
    """What all events have."""

    cursor: str = strawberry.field(
        description="What `after` takes: a client that reconnects goes on without a gap or a repeat."
    )
    at: datetime = strawberry.field(description="When it was recorded.")
    attempt: int = strawberry.field(description="Which try of the job it belongs to.")
    job: strawberry.Private[UUID]

    def identity(self) -> tuple[UUID, str]:
        """Return what no other event has; see ``server.graphql.sharing``."""
        return self.job, self.cursor


@strawberry.type(description="The job has come to a state.")
class JobStateChanged(JobEvent):
    """The job entered a state."""

    state: JobState = strawberry.field(description="Where the job is now.")
    reason: str | None = strawberry.field(description="Why, for a person.")


@strawberry.type(description="One input has its vector.")
class ItemEmbedded(JobEvent):
    """One vector of a job."""

    index: Long = strawberry.field(description="Which input, counted from 0.")
    vector: FloatMatrix = strawberry.field(description="One row.")


@strawberry.type(description="One input can't have a vector.")
class ItemFailed(JobEvent):
    """One input of a job has no vector."""

    index: Long = strawberry.field(description="Which input, counted from 0.")
    code: ErrorCode = strawberry.field(description="For programs.")
    message: str = strawberry.field(description="One sentence for a person.")


@strawberry.type(
    description="A training has come to a step: at most two a second, the first and the last always."
)
class TrainingProgressed(JobEvent):
    """Numbers of a training."""

    step: int = strawberry.field(description="Updates of the main network that are done.")
    total_steps: int = strawberry.field(description="Updates in all.")
    epoch: int = strawberry.field(description="Passes over the data that are done.")
    metrics: list[Metric] = strawberry.field(description="How it goes.")
    eta_seconds: float | None = strawberry.field(description="Seconds that are left, by the pace so far.")
    device: str = strawberry.field(description="What it runs on.")


@strawberry.type(description="A training shows what its model makes by now.")
class SamplesGenerated(JobEvent):
    """Something to look at."""

    step: int = strawberry.field(description="When it was made.")
    image_url: str | None = strawberry.field(
        description="A picture, for the owner of the training: a path on this host. Null for text."
    )
    text: str | None = strawberry.field(description="A text. Null for a picture.")


@strawberry.type(description="From here a training can go on, whatever happens.")
class CheckpointSaved(JobEvent):
    """A step that is safe."""

    step: int = strawberry.field(description="Which step.")


@strawberry.type(description="A training goes on, but somebody should look.")
class TrainingWarned(JobEvent):
    """A warning."""

    step: int = strawberry.field(description="When it was noticed.")
    warning: str = strawberry.field(description="What it is, for programs.")
    message: str = strawberry.field(description="One sentence for a person.")


@strawberry.type(description="A training has made its model.")
class ModelExported(JobEvent):
    """The model is there."""

    model_id: strawberry.Private[UUID]

    @strawberry.field(description="The model as it is now; NOT_FOUND once it is deleted.")
    async def model(self, info: Info) -> Model:
        """Look the model up."""
        record = await info.context.loaders.model(self.model_id)
        if record is None:
            raise NotFound("The model is not there any more.")
        return Model.of(record)


EmbeddingJobEvent = Annotated[
    JobStateChanged | ItemEmbedded | ItemFailed,
    strawberry.union("EmbeddingJobEvent", description="What happens to an embedding job."),
]
TrainingEvent = Annotated[
    JobStateChanged
    | TrainingProgressed
    | SamplesGenerated
    | CheckpointSaved
    | TrainingWarned
    | ModelExported,
    strawberry.union("TrainingEvent", description="What happens to a training."),
]


def job_event(job_id: UUID, record: JobEventRecord) -> JobStateChanged | ItemEmbedded | ItemFailed:
    """Reshape a service's record.

    Raises:
        TypeError: it is no event of an embedding job.
    """
    common = _common(job_id, record)
    match record:
        case JobStateChangedRecord(state=state, reason=reason):
            return JobStateChanged(**common, state=state, reason=reason)
        case ItemEmbeddedRecord(index=index, vector=vector):
            return ItemEmbedded(**common, index=Long(index), vector=float_matrix(vector.reshape(1, -1)))
        case ItemFailedRecord(index=index, code=code, message=message):
            return ItemFailed(**common, index=Long(index), code=code, message=message)
        case _:
            raise TypeError(type(record).__name__)


def training_event(
    job_id: UUID, record: JobEventRecord
) -> (
    JobStateChanged | TrainingProgressed | SamplesGenerated | CheckpointSaved | TrainingWarned | ModelExported
):
    """Reshape a service's record.

    Raises:
        TypeError: it is no event of a training.
    """
    common = _common(job_id, record)
    match record:
        case JobStateChangedRecord(state=state, reason=reason):
            return JobStateChanged(**common, state=state, reason=reason)
        case TrainingProgressedRecord():
            return TrainingProgressed(
                **common,
                step=record.step,
                total_steps=record.total_steps,
                epoch=record.epoch,
                metrics=metrics_of(record.metrics),
                eta_seconds=record.eta_s,
                device=record.device,
            )
        case SamplesGeneratedRecord(step=step, text=text):
            url = f"/v1/training/jobs/{record.job_id}/samples/{record.seq}" if text is None else None
            return SamplesGenerated(**common, step=step, image_url=url, text=text)
        case CheckpointSavedRecord(step=step):
            return CheckpointSaved(**common, step=step)
        case TrainingWarnedRecord(step=step, code=code, message=message):
            return TrainingWarned(**common, step=step, warning=code, message=message)
        case ModelExportedRecord(model_id=model_id):
            return ModelExported(**common, model_id=model_id)
        case _:
            raise TypeError(type(record).__name__)


def _common(job_id: UUID, record: JobEventRecord) -> dict[str, Any]:
    return {"job": job_id, "cursor": record.cursor, "at": record.at, "attempt": record.attempt}
