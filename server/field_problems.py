"""Refusals that name several fields at once."""

from server.errors import InvalidInput
from server.records import Record


class FieldProblem(Record, frozen=True):
    """What is wrong with one field: its path, outermost first, and a sentence for a person."""

    path: tuple[str, ...]
    message: str


class InvalidParameters(InvalidInput):
    """Some parameters can't be used.

    Attributes:
        problems: every one of them, at least one; the error's own path is the first one's.
    """

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        first, *others = problems
        more = f" Problems in all: {len(problems)}." if others else ""
        super().__init__(first.message + more, path=first.path)
        self.problems = problems
