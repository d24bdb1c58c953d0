"""What a refusal has against each field, for the faces."""

from server.errors import ServiceError
from server.field_problems import FieldProblem, InvalidParameters
from server.training_records import TrainerKind


def problems_of(error: ServiceError) -> list[FieldProblem]:
    """Return all that was found wrong; of a refusal that names one field, that one."""
    if isinstance(error, InvalidParameters):
        return list(error.problems)
    return [FieldProblem(path=error.path, message=error.message)] if error.path else []


def name_of(kind: TrainerKind) -> str:
    """Return the field that both faces have for a trainer's parameters."""
    return kind.value.lower()
