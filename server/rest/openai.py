"""The shapes OpenAI's clients send and expect; ``server.rest.errors`` has that of their errors.

Source: the API reference of OpenAI, "Create embeddings" and "List models".
"""

from binascii import b2a_base64
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from server.errors import ErrorCode
from server.records import Modality
from server.selection import AUTO

Encoding = Literal["float", "base64"]


class CreateEmbeddings(msgspec.Struct, frozen=True, kw_only=True):
    """What `POST /v1/embeddings` takes. ``user`` is accepted and ignored."""

    input: str | list[str]
    model: str = AUTO
    encoding_format: Encoding = "float"
    dimensions: int | None = None
    user: str | None = None


class EmbedFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `POST /v1/embeddings/files` takes."""

    file_ids: list[str]
    model: str = AUTO
    encoding_format: Encoding = "float"
    dimensions: int | None = None


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """One row. ``embedding`` is a list of numbers or base64 of little-endian float32; null if it failed."""

    index: int
    embedding: list[float] | str | None
    object: str = "embedding"


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of the model; 0 for models that have none."""

    prompt_tokens: int
    total_tokens: int


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why one input has no embedding."""

    index: int
    code: ErrorCode
    message: str


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """How `auto` chose the pipeline."""

    media_type: str
    modality: Modality
    confidence: float
    reason: str


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. ``model`` is the pipeline that was used; ``selection`` is there if `auto` chose it."""

    data: list[Embedding]
    model: str
    usage: TokenUsage
    object: str = "list"
    selection: Selection | None = None
    failures: list[Failure] | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline as OpenAI's clients list it, and what else there is to know."""

    id: str
    #: Unix time in seconds.
    created: int
    object: str = "model"
    owned_by: str = "towhee"
    modality: Modality | None = None
    dimension: int | None = None
    available: bool = True
    description: str = ""


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """All models that can be used now."""

    data: list[Model]
    object: str = "list"


def encode_rows(vectors: npt.NDArray[np.float32], encoding: Encoding) -> list[Any]:
    """Make one JSON value a row: float32 arrays, which orjson writes as they are, or base64 strings."""
    if encoding == "float":
        return list(np.ascontiguousarray(vectors))
    raw = memoryview(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
    step = vectors.shape[1] * 4
    return [
        b2a_base64(raw[start : start + step], newline=False).decode("ascii")
        for start in range(0, len(raw), step)
    ]


def to_json(value: object) -> bytes:
    """Write JSON, with float32 arrays among the values."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
