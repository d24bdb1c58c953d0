"""What the clients of one round saw: all that the checker may know."""

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


class EventSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a job as one watcher received it."""

    cursor: str
    attempt: int
    #: When it was received, on the clients' clock.
    at_s: float
    #: Of a change of state.
    state: str | None = None
    #: Of an item.
    index: int | None = None
    #: Shape (dimension,); None of an item that failed, which then has a code.
    vector: Vector | None = None
    code: str | None = None

    @property
    def identity(self) -> tuple[str, int, str | None, int | None, str | None]:
        """What must be the same for every watcher."""
        return (self.cursor, self.attempt, self.state, self.index, self.code)


class JobSeen(msgspec.Struct, kw_only=True):
    """One job, from the first try to hand it in."""

    texts: list[str]
    idempotency_key: str
    #: Every id that was answered; the same key always gives the same id.
    ids: list[str] = msgspec.field(default_factory=list)
    #: What each watcher received, over all the sockets it had one after the other.
    watched: list[list[EventSeen]] = msgspec.field(default_factory=list)
    #: Read from the first event to the end when all was over; None if that did not work.
    history: list[EventSeen] | None = None
    #: State, completedCount and failedCount when all was over.
    state: str | None = None
    completed: int | None = None
    failed: int | None = None
    #: Shape (items, dimension): the result file.
    result: Vector | None = None
    #: A watcher did not come to the end in time.
    is_stuck: bool = False
    #: How often its user has sent the order to cancel it: again while there was no answer.
    num_cancels: int = 0
    #: What the order was answered with in the end: a state, or JOB_FINISHED.
    cancel_answer: str | None = None


class CallSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One interactive call.

    ``unreached``: nobody took the connection. ``cut``: it broke before the answer. ``hung``: no answer long
    after the call's deadline.
    """

    replica: int
    began_s: float
    ended_s: float
    outcome: Literal["answered", "refused", "unreached", "cut", "hung"]
    code: str | None = None


class RefusalSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Anything else that was refused: a job, a subscription, a socket."""

    what: str
    code: str
    at_s: float


class Seen(msgspec.Struct, kw_only=True):
    """Everything of one round."""

    jobs: list[JobSeen] = msgspec.field(default_factory=list)
    calls: list[CallSeen] = msgspec.field(default_factory=list)
    refusals: list[RefusalSeen] = msgspec.field(default_factory=list)
    #: Ids among a user's jobs that no answer had named.
    unknown_ids: list[str] = msgspec.field(default_factory=list)
    #: How often a watcher had to open another socket.
    num_resumed: int = 0


class Excuse(msgspec.Struct, frozen=True, kw_only=True):
    """A replica that could not answer, because it was itself frozen or dead, and when."""

    replica: int
    began_s: float
    ended_s: float
