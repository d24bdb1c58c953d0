"""Starting, stopping and resuming trainings."""

from typing import Annotated

import strawberry

from server.graphql import ids
from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.mutations.embeddings import CancelJobInput
from server.graphql.types.errors import (
    Busy,
    Conflict,
    DatasetInvalid,
    Forbidden,
    InvalidInput,
    JobFinished,
    NotFound,
    QuotaExceeded,
    RateLimited,
)
from server.graphql.types.trainers import TrainerInput
from server.graphql.types.training import TrainingJob
from server.lane_rows import TRAINING
from server.training_jobs import StartTrainingRequest


@strawberry.input(
    description="A data set that is still VALIDATING is accepted: the job waits, and fails with "
    "DATASET_INVALID if it turns out so."
)
class StartTrainingInput:
    """Arguments of startTraining."""

    name: str = strawberry.field(description="1 to 200 characters, for the training and its model.")
    dataset_id: strawberry.ID = strawberry.field(description="What to train on.")
    trainer: TrainerInput = strawberry.field(description="Which trainer, and what it is told.")
    seed: int | None = strawberry.field(
        default=None,
        description="What chance is drawn from, 0 to 2^31 - 1: the same seed gives the same model. One is "
        "drawn when left out.",
    )
    max_steps: int | None = strawberry.field(
        default=None, description="Steps in all, 1 to 10,000,000; goes before the epochs."
    )
    max_seconds: int | None = strawberry.field(
        default=None,
        description="Seconds of training of one attempt, after which it ends as if its steps were done. 1 to "
        "what this server allows, and that when left out.",
    )
    priority: int | None = strawberry.field(
        default=None,
        description="Orders your own waiting trainings, the highest is next: -10 to 10, 0 when left out.",
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="A name for this request: sent again, it answers with the job it made the first time.",
    )
    parent_model_id: strawberry.ID | None = strawberry.field(
        default=None, description="A model of the same trainer whose weights it begins with."
    )


@strawberry.input(description="Which training goes on, and for how long.")
class ResumeTrainingInput:
    """Arguments of resumeTraining."""

    job_id: strawberry.ID = strawberry.field(description="A training that has ended.")
    max_steps: int | None = strawberry.field(
        default=None, description="Steps in all, those that are done included; as before when left out."
    )
    max_seconds: int | None = strawberry.field(
        default=None, description="Seconds of training from here on; as before when left out."
    )


@strawberry.type(description="The training.")
class TrainingJobPayload:
    """Answer of mutations on trainings."""

    job: TrainingJob = strawberry.field(description="The training as it is now.")


TrainingJobResult = Annotated[
    TrainingJobPayload
    | InvalidInput
    | NotFound
    | Forbidden
    | Conflict
    | JobFinished
    | DatasetInvalid
    | QuotaExceeded
    | RateLimited
    | Busy,
    strawberry.union("TrainingJobResult", description="A training, or why there is none."),
]


@strawberry.type
class TrainingMutations:
    """Trainings. An API key needs TRAIN."""

    @strawberry.mutation(
        description="Train a model. Everything that is wrong with the parameters, and with the data for "
        "them, is said at once in `problems`. Follow the job with trainingEvents. An API key needs TRAIN."
    )
    async def start_training(
        self,
        info: Info,
        request: Annotated[
            StartTrainingInput, strawberry.argument(name="input", description="What to train.")
        ],
    ) -> TrainingJobResult:
        """Start a training."""
        principal = require_principal(info)
        kind, parameters = request.trainer.choice()
        parent = request.parent_model_id
        wanted = StartTrainingRequest(
            name=request.name,
            dataset_id=ids.decode_as("Dataset", request.dataset_id, ("dataset_id",)),
            trainer=kind,
            parameters=parameters,
            seed=request.seed,
            max_steps=request.max_steps,
            max_seconds=request.max_seconds,
            priority=request.priority or 0,
            idempotency_key=request.idempotency_key,
            parent_model_id=None if parent is None else ids.decode_as("Model", parent, ("parent_model_id",)),
        )
        record = await info.context.services.training_jobs.start(principal, wanted)
        return TrainingJobPayload(job=TrainingJob.of(record))

    @strawberry.mutation(
        description="Stop a training. One that waits is CANCELLED at once; one that runs is CANCELLING until "
        "its worker has saved a checkpoint, from which resumeTraining goes on. An API key needs TRAIN."
    )
    async def cancel_training(
        self,
        info: Info,
        request: Annotated[CancelJobInput, strawberry.argument(name="input", description="Which training.")],
    ) -> TrainingJobResult:
        """Stop a training."""
        principal = require_principal(info)
        services = info.context.services
        job_id = ids.decode_as("TrainingJob", request.job_id, ("job_id",))
        await services.job_cancellations.cancel(principal, job_id, kind=TRAINING)
        record = await services.training_jobs.get(principal.user_id, job_id)
        return TrainingJobPayload(job=TrainingJob.of(record))

    @strawberry.mutation(
        description="Go on with a training that was cancelled or has failed, from its newest checkpoint; or, "
        "with more steps, with one that has succeeded. An API key needs TRAIN."
    )
    async def resume_training(
        self,
        info: Info,
        request: Annotated[
            ResumeTrainingInput, strawberry.argument(name="input", description="Which training.")
        ],
    ) -> TrainingJobResult:
        """Go on with a training."""
        principal = require_principal(info)
        record = await info.context.services.training_jobs.resume(
            principal,
            ids.decode_as("TrainingJob", request.job_id, ("job_id",)),
            max_steps=request.max_steps,
            max_seconds=request.max_seconds,
        )
        return TrainingJobPayload(job=TrainingJob.of(record))
