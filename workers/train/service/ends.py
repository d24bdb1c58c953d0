"""How work on a job can end."""

from enum import Enum, auto


class End(Enum):
    """What becomes of the message that a worker holds for a job."""

    #: The last report of the job is stored.
    DONE = auto()
    #: A server said so: the attempt is somebody else's, who holds a message of their own.
    SUPERSEDED = auto()
    #: The worker stops; the job is to go on elsewhere.
    DRAINED = auto()
    #: Something that may pass is in the way; the job is to be tried again later.
    HANDED_BACK = auto()
    #: The child has died, perhaps of this job: nothing is said, and the next claim counts one lost attempt.
    LOST = auto()


class Why(Enum):
    """Why work is stopped from outside."""

    CANCELLED = auto()
    DRAINING = auto()
    SUPERSEDED = auto()


class Hopeless(Exception):
    """Another attempt would fail as well.

    Attributes:
        code: an ErrorCode of the public contract.
        advice: what to do about it, for a person.
        row: the row at fault, where there is one.
    """

    def __init__(self, code: str, message: str, *, advice: str = "", row: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.advice = advice
        self.row = row


class Lost(Exception):
    """The child has died; the message says how."""


class NotStarted(Exception):
    """No child could be started, which is no fault of a job."""


class StoppedEarly(Exception):
    """The child did as it was told to, or had to be ended then."""
