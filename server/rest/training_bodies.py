"""What is sent to start a training, and how a training is shown."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from server.errors import ErrorCode, InvalidInput
from server.problems import name_of
from server.records import JobState
from server.training_records import TrainerKind, TrainingJobRecord

PATH = "/v1/training/jobs"


class StartTrainingBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new training."""

    name: Annotated[str, Meta(description="1 to 200 characters, for the training and its model.")]
    dataset_id: Annotated[str, Meta(description="What to train on. One that is VALIDATING is waited for.")]
    trainer: Annotated[
        dict[str, dict[str, Any]],
        Meta(description="Which trainer, and what it is told. Exactly one field; {} takes its defaults."),
    ]
    seed: Annotated[
        int | None,
        Meta(description="0 to 2^31 - 1: the same seed gives the same model. One is drawn if null."),
    ] = None
    max_steps: Annotated[
        int | None, Meta(description="Steps in all, 1 to 10,000,000; goes before the epochs.")
    ] = None
    max_seconds: Annotated[
        int | None,
        Meta(
            description="Seconds of training of one attempt, after which it ends as if its steps were done."
        ),
    ] = None
    priority: Annotated[
        int, Meta(description="Orders your own waiting trainings, the highest is next: -10 to 10.")
    ] = 0
    idempotency_key: Annotated[
        str | None, Meta(description="The same key with the same request answers with the same job.")
    ] = None
    parent_model_id: Annotated[
        str | None, Meta(description="A model of the same trainer whose weights it begins with.")
    ] = None

    def choice(self) -> tuple[TrainerKind, Mapping[str, Any]]:
        """Return which trainer, and its parameters.

        Raises:
            InvalidInput: not exactly one, or one that there is not.
        """
        kinds = {name_of(kind): kind for kind in TrainerKind}
        for name in self.trainer:
            if name not in kinds:
                raise InvalidInput(
                    f"There is no such trainer. There are {', '.join(kinds)}.", path=("trainer",)
                )
        if len(self.trainer) != 1:
            raise InvalidInput("Give exactly one trainer.", path=("trainer",))
        [(name, parameters)] = self.trainer.items()
        return kinds[name], parameters


class ResumeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long a training goes on; null leaves a limit as it was."""

    max_steps: Annotated[int | None, Meta(description="Steps in all, those that are done included.")] = None
    max_seconds: Annotated[int | None, Meta(description="Seconds of training from here on.")] = None


class FailureView(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job has failed."""

    code: ErrorCode
    message: str


class TrainingView(msgspec.Struct, frozen=True, kw_only=True):
    """A training."""

    id: UUID
    name: str
    trainer: TrainerKind
    state: JobState
    dataset_id: UUID
    attempt: int
    seed: int
    step: int
    #: 0 while that is not known.
    total_steps: int
    #: The newest numbers.
    metrics: dict[str, float]
    eta_seconds: float | None
    device: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: FailureView | None
    #: What it has made last.
    model_id: UUID | None
    events_url: str


def training_view(record: TrainingJobRecord) -> TrainingView:
    """Describe a training."""
    return TrainingView(
        id=record.id,
        name=record.name,
        trainer=record.trainer,
        state=record.state,
        dataset_id=record.dataset_id,
        attempt=record.attempt,
        seed=record.seed,
        step=record.step,
        total_steps=record.total_steps,
        metrics=record.metrics,
        eta_seconds=record.eta_s,
        device=record.device,
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        error=failure_view(record.error_code, record.error_message),
        model_id=record.model_id,
        events_url=f"{PATH}/{record.id}/events",
    )


def failure_view(code: ErrorCode | None, message: str | None) -> FailureView | None:
    """Say why a job has failed, if it has."""
    return None if code is None else FailureView(code=code, message=message or "")
