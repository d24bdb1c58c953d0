"""What goes into the engine and what comes out; nothing here knows a bus, Towhee or torch."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

#: Codes of the public contract that an input can be refused with.
RefusalCode = Literal["INVALID_INPUT", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA", "NOT_FOUND", "INTERNAL"]
Matrix = npt.NDArray[np.float32]


class Lane(StrEnum):
    """Whether somebody waits for the answer."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class Refusal(Exception):
    """One input can't be embedded. Its neighbours can.

    Attributes:
        code: from the public contract.
        message: one sentence for the person who sent the input, free of internals.
    """

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class TextSource(msgspec.Struct, frozen=True):
    """A text."""

    text: str


class BytesSource(msgspec.Struct, frozen=True):
    """Bytes that are read only when there is room to decode them.

    ``read`` may raise `Refusal`; any other error fails the whole request.
    """

    media_type: str
    read: Callable[[], Awaitable[bytes]]


Source = TextSource | BytesSource


class Prepared(msgspec.Struct, frozen=True):
    """One input as its pipeline wants it: decoded or tokenised.

    Attributes:
        payload: what the pipeline's first operator takes a list of.
        length: how long it makes its row of a batch, in tokens or what costs about as much as one.
        tokens: model tokens; 0 where the model has none.
        truncated: whether the model sees less than there was.
    """

    payload: object
    length: int
    tokens: int = 0
    truncated: bool = False


class EmbedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Some inputs for one pipeline. Work not begun by ``deadline`` (of ``time.monotonic``) is dropped."""

    pipeline: str
    sources: list[Source]
    lane: Lane
    deadline: float | None = None


class Embedded(msgspec.Struct, kw_only=True):
    """One row for each source, in order.

    Attributes:
        vectors: (len(sources), dimension), float32, of unit length; zero where refused.
        compute_s: device seconds for each row.
        refusals: by index of the source.
    """

    vectors: Matrix
    tokens: list[int]
    truncated: list[bool]
    compute_s: list[float]
    refusals: dict[int, Refusal]


class Embedder(Protocol):
    """Turns requests into vectors: the worker's own device, or a process that may die of it."""

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Embed all inputs of a request."""


class Expired(Exception):
    """The deadline of a request passed before all of it was begun."""


class PipelineNotHosted(Exception):
    """This worker has no pipeline of that name."""


class ModelNotAtHand(PipelineNotHosted):
    """This worker can't load a deployed model now; another may, or this one later."""


class ModelRefused(Exception):
    """A deployed model embeds nothing, here or anywhere.

    Attributes:
        code: an ErrorCode of the public contract.
        message: one sentence for the person who asked, free of internals.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
