"""What a worker and its sacrificial child say to each other through two pipes: length, then MessagePack."""

from typing import IO, Literal

import msgspec

from workers.framing import framed, read_frame


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a child is started."""

    #: Where modules are found, as the worker finds them.
    sys_path: list[str]
    #: ``module:function``; it takes the pipeline's name and the options and returns hosted pipelines by name.
    loader: str
    options: dict[str, int | str]
    pipeline: str
    #: The child ends with this process.
    parent_pid: int


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The child has loaded its pipeline; None if it has none of that name."""

    dimension: int | None


class Question(msgspec.Struct, frozen=True, kw_only=True, tag="question"):
    """Embed one input: a text, or bytes of a media type."""

    text: str | None = None
    data: bytes | None = None
    media_type: str = ""


class Row(msgspec.Struct, frozen=True, kw_only=True, tag="row"):
    """The vector as little-endian float32, or why there is none."""

    vector: bytes = b""
    tokens: int = 0
    truncated: bool = False
    compute_s: float = 0.0
    refusal_code: (
        Literal["INVALID_INPUT", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA", "NOT_FOUND", "INTERNAL"] | None
    ) = None
    refusal_message: str = ""


Frame = Ready | Question | Row

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def pack(frame: Frame) -> bytes:
    """Write a frame with its length in front."""
    return framed(_ENCODER.encode(frame))


def unpack(raw: bytes) -> Frame:
    """Read a frame without its length."""
    return _DECODER.decode(raw)


def read(stream: IO[bytes]) -> Frame | None:
    """Read the next frame of a blocking stream; None at its end."""
    raw = read_frame(stream)
    return None if raw is None else unpack(raw)


def write(stream: IO[bytes], frame: Frame) -> None:
    """Write a frame to a blocking stream."""
    stream.write(pack(frame))
    stream.flush()
