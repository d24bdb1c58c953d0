"""Embedding: the interactive lane, the bulk lane and what comes back from both."""

from datetime import datetime
from typing import Literal

import msgspec

from bus.envelope import Command, Event


class TextInput(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="text"):
    """A text that is small enough to travel with the message."""

    text: str


class ObjectInput(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="object"):
    """Bytes that stay in the object store; only their key travels."""

    key: str
    media_type: str
    byte_size: int


Input = TextInput | ObjectInput


class ItemError(msgspec.Struct, frozen=True, kw_only=True):
    """Why one input has no vector. ``index`` counts from the start of the request or job."""

    index: int
    #: An ErrorCode of the public contract.
    code: str
    message: str


class DeployedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A trained model that embeds, for its owner alone. A worker loads it when it is first asked for."""

    model_id: str
    #: Who asks; the worker compares it with the owner that was written beside the model.
    owner_id: str
    #: ``<prefix>/manifest.json`` and the files it names are the artifact.
    prefix: str
    #: Digest of the manifest, which holds those of the other files.
    manifest_sha256: str
    dimension: int


class PreloadModel(Command, frozen=True, kw_only=True, tag="embedding.preload_model.v1"):
    """A model was deployed: whoever may be asked for it loads it now. Nobody waits for that."""

    pool: str
    model: DeployedModel


class EmbedNow(Command, frozen=True, kw_only=True, tag="embedding.embed_now.v1"):
    """Embed these inputs while somebody waits (interactive lane)."""

    request_id: str
    pipeline: str
    inputs: list[Input]
    #: The index of ``inputs[0]`` in the caller's request, which may be spread over several commands.
    first_index: int = 0
    #: Where the answer goes: a subject in the asking replica's inbox.
    reply_to: str
    #: Work that starts later than this is dropped without compute.
    deadline_at: datetime
    #: What embeds, where it is a deployed model; ``pipeline`` is then its name to its owner.
    model: DeployedModel | None = None


class VectorsComputed(Event, frozen=True, kw_only=True, tag="embedding.vectors_computed.v1"):
    """A run of rows of one interactive request, never more than 200 kB of vectors.

    ``vectors`` holds ``count`` rows of ``dimension`` little-endian float32, of unit length; the row of
    a failed item is zero and is explained in ``failures``.
    """

    request_id: str
    first_index: int
    count: int
    dimension: int
    vectors: bytes
    truncated: list[bool]
    #: Model tokens for each row; 0 where the model has none.
    tokens: list[int]
    failures: list[ItemError] = msgspec.field(default_factory=list)
    #: CPU or device seconds spent on these rows.
    compute_s: float = 0.0


class EmbeddingRefused(Event, frozen=True, kw_only=True, tag="embedding.refused.v1"):
    """A whole ``EmbedNow`` could not be worked on: no row of it will come."""

    request_id: str
    first_index: int
    code: str
    message: str


class EmbedJob(Command, frozen=True, kw_only=True, tag="embedding.embed_job.v1"):
    """An embedding job waits to be claimed (bulk lane). All else is in the answer to the claim."""

    job_id: str
    #: Which publication of this job this is: the message id on the bus is ``<job_id>:<publish_number>``.
    publish_number: int
    #: It has one chunk at most, so that a worker may hold several of its kind; False also where nobody says.
    is_short: bool = False


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker needs to work on an embedding job."""

    pipeline: str
    #: Object key of the job's inputs: a msgpack list of ``Input``.
    inputs_key: str
    item_count: int
    #: Items are reported by chunks of this many; chunk ``n`` starts at item ``n * chunk_size``.
    chunk_size: int
    #: What embeds, where it is a deployed model; ``pipeline`` is then its name to its owner.
    model: DeployedModel | None = None


class ItemsEmbedded(Event, frozen=True, kw_only=True, tag="embedding.items_embedded.v1"):
    """One whole chunk of a job is done. The vectors lie in the object store under ``vectors_key``.

    The object holds ``count`` rows of ``dimension`` little-endian float32; rows of failed items are zero.
    """

    job_id: str
    attempt: int
    chunk: int
    first_index: int
    count: int
    dimension: int
    vectors_key: str
    truncated: list[bool]
    failures: list[ItemError] = msgspec.field(default_factory=list)
    tokens: int = 0
    compute_s: float = 0.0


class JobAttemptFailed(Event, frozen=True, kw_only=True, tag="embedding.job_attempt_failed.v1"):
    """The worker gives the job up for a reason that another attempt would not change."""

    job_id: str
    attempt: int
    code: str
    message: str


class JobAttemptLetGo(Event, frozen=True, kw_only=True, tag="embedding.job_attempt_let_go.v1"):
    """The worker lives and works no more on the attempt; what it reported before stays."""

    job_id: str
    attempt: int
    reason: Literal["cancelled", "handed_back"]


def decode_inputs(raw: bytes) -> list[Input]:
    """Read the inputs of a job as ``encode_inputs`` wrote them.

    Raises:
        msgspec.DecodeError: the object is not such a list.
    """
    return msgspec.msgpack.decode(raw, type=list[Input])


def encode_inputs(inputs: list[Input]) -> bytes:
    """Write the inputs of a job as one object."""
    return msgspec.msgpack.encode(inputs)
