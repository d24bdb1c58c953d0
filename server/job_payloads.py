"""What the rows of ``job_events`` say: small structs, stored as msgpack under the name of their kind."""

from typing import Literal
from uuid import UUID

import msgspec

from bus.messages import ItemError, ItemsEmbedded
from server.records import JobState

STATE_CHANGED = "state_changed"
ITEMS_EMBEDDED = "items_embedded"
TRAINING_PROGRESSED = "training_progressed"
SAMPLES_GENERATED = "samples_generated"
CHECKPOINT_SAVED = "checkpoint_saved"
TRAINING_WARNED = "training_warned"
MODEL_EXPORTED = "model_exported"


class StateChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The job entered a state."""

    state: JobState
    reason: str | None = None


class ChunkEmbedded(msgspec.Struct, frozen=True, kw_only=True):
    """A run of items is done: ``count`` rows of ``dimension`` float32 lie under ``vectors_key``."""

    first_index: int
    count: int
    dimension: int
    vectors_key: str
    failures: list[ItemError] = msgspec.field(default_factory=list)

    @classmethod
    def of(cls, event: ItemsEmbedded) -> "ChunkEmbedded":
        """Keep of a worker's report what subscribers and result files need."""
        return cls(
            first_index=event.first_index,
            count=event.count,
            dimension=event.dimension,
            vectors_key=event.vectors_key,
            failures=event.failures,
        )


class ProgressMade(msgspec.Struct, frozen=True, kw_only=True):
    """The training has come to a step; every number is finite."""

    step: int
    total_steps: int
    epoch: int
    metrics: dict[str, float]
    eta_s: float | None
    device: str


class SamplesShown(msgspec.Struct, frozen=True, kw_only=True):
    """Something to look at lies under ``object_key``."""

    step: int
    name: str
    media_type: Literal["image/png", "text/plain"]
    object_key: str
    byte_size: int


class CheckpointKept(msgspec.Struct, frozen=True, kw_only=True):
    """From this step the training can go on; where it lies is with the job, for the newest alone."""

    step: int


class WarningGiven(msgspec.Struct, frozen=True, kw_only=True):
    """Training goes on, but somebody should look."""

    step: int
    code: str
    message: str


class ModelMade(msgspec.Struct, frozen=True, kw_only=True):
    """The model is there."""

    model_id: UUID


Payload = (
    StateChanged | ChunkEmbedded | ProgressMade | SamplesShown | CheckpointKept | WarningGiven | ModelMade
)

_KINDS: dict[str, type[Payload]] = {
    STATE_CHANGED: StateChanged,
    ITEMS_EMBEDDED: ChunkEmbedded,
    TRAINING_PROGRESSED: ProgressMade,
    SAMPLES_GENERATED: SamplesShown,
    CHECKPOINT_SAVED: CheckpointKept,
    TRAINING_WARNED: WarningGiven,
    MODEL_EXPORTED: ModelMade,
}
_KIND_OF: dict[type[Payload], str] = {payload: kind for kind, payload in _KINDS.items()}


def kind_of(payload: Payload) -> str:
    """Return what ``job_events.kind`` is for this payload."""
    return _KIND_OF[type(payload)]


def encode_payload(payload: Payload) -> bytes:
    """Write a payload as it is stored."""
    return msgspec.msgpack.encode(payload)


def decode_payload(kind: str, raw: bytes) -> Payload | None:
    """Read a stored payload; None for a kind that a newer release has written.

    Raises:
        msgspec.DecodeError: the bytes are no payload of this kind.
    """
    if kind not in _KINDS:
        return None
    return msgspec.msgpack.decode(raw, type=_KINDS[kind])


def chunk_key(chunk: int) -> str:
    """Return the item key of a chunk: unique in the life of its job."""
    return f"chunk:{chunk}"


def chunk_number(item_key: str) -> int:
    """Return the chunk whose item key this is."""
    return int(item_key.removeprefix("chunk:"))
