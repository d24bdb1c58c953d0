"""What the clients of a round saw of their trainings."""

import msgspec


class TrainingEventSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One event as one watcher received it."""

    kind: str
    cursor: str
    attempt: int
    #: When it was received, on the clients' clock.
    at_s: float
    state: str | None = None
    step: int | None = None

    @property
    def identity(self) -> tuple[str, str, int, str | None, int | None]:
        """What must be the same for every watcher."""
        return (self.kind, self.cursor, self.attempt, self.state, self.step)


class TrainingSeen(msgspec.Struct, kw_only=True):
    """One training, from the first try to start it."""

    recipe: str
    idempotency_key: str
    #: Every id that was answered; the same key always gives the same id.
    ids: list[str] = msgspec.field(default_factory=list)
    #: What each watcher received, over all the sockets it had one after the other.
    watched: list[list[TrainingEventSeen]] = msgspec.field(default_factory=list)
    #: Read from the first event to the end when all was over.
    history: list[TrainingEventSeen] | None = None
    state: str | None = None
    #: Digest of the model's manifest, which holds those of its weights.
    sha256: str | None = None
    is_stuck: bool = False
    #: Orders to cancel that were sent, and those to resume that were accepted.
    num_cancels: int = 0
    num_resumes: int = 0


class TrainingsSeen(msgspec.Struct, kw_only=True):
    """Everything of one round."""

    trainings: list[TrainingSeen] = msgspec.field(default_factory=list)
    #: Ids among a user's trainings that no answer had named.
    unknown_ids: list[str] = msgspec.field(default_factory=list)
