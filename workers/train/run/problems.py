"""What is said when a training can't be, in words for whoever asked for it."""

from collections.abc import Iterator
from contextlib import contextmanager

from workers.nets.validation import InvalidConfig

#: Parts of a path that say where in our code a field lives, not which field it is.
_OURS = frozenset({"options", "config", "net", "main", "optimizers", "arguments"})
INVALID_INPUT = "INVALID_INPUT"
UNAVAILABLE = "PIPELINE_UNAVAILABLE"


class CannotTrain(Exception):
    """These data and parameters don't fit each other; trying again would end the same way.

    Attributes:
        code: one of the codes of the public interface.
        message: what doesn't fit.
        advice: what would; empty where there is none.
        row: the row of the data that is to blame, where it is known.
    """

    def __init__(
        self, message: str, advice: str = "", *, code: str = INVALID_INPUT, row: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.advice = advice
        self.row = row


@contextmanager
def in_words() -> Iterator[None]:
    """Turn what nets and trainers refuse into `CannotTrain`, each field by its name in words.

    Raises:
        CannotTrain: in the place of InvalidConfig.
    """
    try:
        yield
    except InvalidConfig as error:
        found = [(_words(problem.path), problem.message) for problem in error.problems]
        said = "; ".join(f"{name} {message}" if name else message for name, message in found)
        raise CannotTrain(said, "Change what is named, or leave it at its default.") from error


def _words(path: tuple[str, ...]) -> str:
    return " ".join(part.replace("_", " ") for part in path if part not in _OURS)
