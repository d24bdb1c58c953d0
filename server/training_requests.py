"""What a training is asked for, and all that is wrong with it, found without the database."""

from collections.abc import Iterator, Mapping, Sequence
from secrets import randbelow
from typing import Any, Final
from uuid import UUID

import msgspec

from bus.messages import TrainerParameters, TrainingSpec
from server.datasets import MAX_NAME_LENGTH, is_name
from server.field_problems import FieldProblem, InvalidParameters
from server.idempotency import digest_of
from server.records import Record
from server.training_parameters import parse_parameters
from server.training_records import TrainerKind

_SEEDS: Final = 2**31
#: Of one training, those before a resume included.
_MAX_STEPS: Final = 10_000_000
_MOST_URGENT: Final = 10
_DATASET: Final = ("dataset_id",)


class StartTrainingRequest(Record, frozen=True):
    """What to train, on what, and for how long at most."""

    name: str
    dataset_id: UUID
    trainer: TrainerKind
    #: Hyper-parameters by the names of the trainer's struct; all of them have a default.
    parameters: Mapping[str, object]
    #: None: one is drawn and kept, so that the run can be repeated.
    seed: int | None = None
    #: Wins over the epochs.
    max_steps: int | None = None
    #: Seconds that an attempt may train.
    max_seconds: int | None = None
    #: From -10 to 10; orders the trainings of one user, the highest first.
    priority: int = 0
    #: The same key with the same request answers with the same training.
    idempotency_key: str | None = None
    #: A model of the same trainer, whose weights it begins with.
    parent_model_id: UUID | None = None


class CheckedTraining(Record, frozen=True):
    """What a request comes to, as far as it alone can tell."""

    #: None where they are wrong.
    parameters: TrainerParameters | None
    problems: tuple[FieldProblem, ...]
    #: What tells the request from another one under the same idempotency key; None where anything is wrong.
    digest: bytes | None = None


def check_training(request: StartTrainingRequest, *, max_seconds: int) -> CheckedTraining:
    """Find every mistake of a request at once; paths are relative to the request.

    Args:
        request: what was asked.
        max_seconds: the most that an attempt may train.
    """
    problems = list(_own_problems(request, max_seconds))
    try:
        parameters = parse_parameters(request.trainer, request.parameters)
    except InvalidParameters as error:
        return CheckedTraining(
            parameters=None, problems=(*problems, *below_trainer(request.trainer, error.problems))
        )
    digest = None if problems else digest_of(_asked_of(request, parameters))
    return CheckedTraining(parameters=parameters, problems=tuple(problems), digest=digest)


def below_trainer(trainer: TrainerKind, problems: Sequence[FieldProblem]) -> list[FieldProblem]:
    """Make paths of hyper-parameters paths of the request; that to the data set is one already.

    Both faces have them under ``trainer`` and its name.
    """
    return [
        problem
        if problem.path == _DATASET
        else FieldProblem(path=("trainer", trainer.value.lower(), *problem.path), message=problem.message)
        for problem in problems
    ]


def limit_problems(
    *, max_steps: int | None, max_seconds: int | None, ceiling_s: int
) -> Iterator[FieldProblem]:
    """Find what is wrong with the limits of a training."""
    if max_steps is not None and not 1 <= max_steps <= _MAX_STEPS:
        yield FieldProblem(path=("max_steps",), message=f"max_steps must be between 1 and {_MAX_STEPS:,}.")
    if max_seconds is not None and not 1 <= max_seconds <= ceiling_s:
        yield FieldProblem(path=("max_seconds",), message=f"max_seconds must be between 1 and {ceiling_s:,}.")


def spec_of(
    request: StartTrainingRequest, parameters: TrainerParameters, *, max_seconds: int
) -> TrainingSpec:
    """Write down what a checked request comes to: complete, so that the same again gives the same model."""
    return TrainingSpec(
        name=request.name,
        parameters=parameters,
        seed=randbelow(_SEEDS) if request.seed is None else request.seed,
        max_steps=request.max_steps,
        max_seconds=max_seconds if request.max_seconds is None else request.max_seconds,
    )


def _own_problems(request: StartTrainingRequest, ceiling_s: int) -> Iterator[FieldProblem]:
    if not is_name(request.name):
        yield FieldProblem(path=("name",), message=f"A name has 1 to {MAX_NAME_LENGTH} printable characters.")
    if request.seed is not None and not 0 <= request.seed < _SEEDS:
        yield FieldProblem(path=("seed",), message=f"seed must be between 0 and {_SEEDS - 1:,}.")
    yield from limit_problems(
        max_steps=request.max_steps, max_seconds=request.max_seconds, ceiling_s=ceiling_s
    )
    if not -_MOST_URGENT <= request.priority <= _MOST_URGENT:
        yield FieldProblem(
            path=("priority",), message=f"priority must be between {-_MOST_URGENT} and {_MOST_URGENT}."
        )


def _asked_of(request: StartTrainingRequest, parameters: TrainerParameters) -> tuple[Any, ...]:
    return (
        request.name,
        request.dataset_id,
        msgspec.to_builtins(parameters),
        request.seed,
        request.max_steps,
        request.max_seconds,
        request.priority,
        request.parent_model_id,
    )
