"""What the rows of ``job_events`` say: small structs, stored as msgpack under the name of their kind."""

import msgspec

from bus.messages import ItemError, ItemsEmbedded
from server.records import JobState

STATE_CHANGED = "state_changed"
ITEMS_EMBEDDED = "items_embedded"


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


Payload = StateChanged | ChunkEmbedded

_KINDS: dict[str, type[StateChanged] | type[ChunkEmbedded]] = {
    STATE_CHANGED: StateChanged,
    ITEMS_EMBEDDED: ChunkEmbedded,
}


def kind_of(payload: Payload) -> str:
    """Return what ``job_events.kind`` is for this payload."""
    return STATE_CHANGED if isinstance(payload, StateChanged) else ITEMS_EMBEDDED


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
