"""What a refusal has against each field, where the faces have the field."""

from collections.abc import Callable

from server.errors import InvalidInput, ServiceError
from server.field_problems import FieldProblem, InvalidParameters
from server.training_records import TrainerKind

Path = tuple[str, ...]


def problems_of(error: ServiceError) -> list[FieldProblem]:
    """Return all that was found wrong; of a refusal that names one field, that one."""
    if isinstance(error, InvalidParameters):
        return list(error.problems)
    return [FieldProblem(path=error.path, message=error.message)] if error.path else []


def in_trainer(error: InvalidInput, kind: TrainerKind) -> InvalidInput:
    """Put hyper-parameters where both faces have them: below ``trainer``, under the name of theirs."""
    return _moved(
        error, lambda path: ("trainer", name_of(kind), *path[1:]) if path[:1] == ("trainer",) else path
    )


def beside_spec(error: InvalidInput) -> InvalidInput:
    """Put what is asked of a generation where both faces have it: beside the model."""
    return _moved(error, lambda path: path[1:] if path[:1] == ("spec",) else path)


def name_of(kind: TrainerKind) -> str:
    """Return the field that the faces have for a trainer's parameters."""
    return kind.value.lower()


def _moved(error: InvalidInput, move: Callable[[Path], Path]) -> InvalidInput:
    if isinstance(error, InvalidParameters):
        return InvalidParameters(
            tuple(
                FieldProblem(path=move(problem.path), message=problem.message) for problem in error.problems
            )
        )
    return InvalidInput(error.message, path=move(error.path))
