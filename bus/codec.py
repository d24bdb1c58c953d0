"""Bytes to message and back: MessagePack, told apart by tag."""

import msgspec

from bus.envelope import Message
from bus.errors import MalformedMessage, MessageTooLarge, UnknownMessage
from bus.messages import AnyMessage

#: Well below the 1 MB a NATS server takes; more than this belongs in the object store.
MAX_MESSAGE_BYTES = 256 * 1024

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


class _Tagged(msgspec.Struct):
    tag: str


_TAG_DECODER = msgspec.msgpack.Decoder(_Tagged)
_KNOWN_TAGS = frozenset(struct.__struct_config__.tag for struct in AnyMessage.__args__)


def encode(message: Message) -> bytes:
    """Write a message.

    Raises:
        MessageTooLarge: it takes more than 256 kB.
        MalformedMessage: a text in it is not valid Unicode (lone surrogates).
    """
    try:
        raw = _ENCODER.encode(message)
    except UnicodeEncodeError as error:
        raise MalformedMessage(f"{type(message).__name__} holds text that is not valid Unicode") from error
    if len(raw) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(f"{type(message).__name__}: {len(raw)} bytes, at most {MAX_MESSAGE_BYTES}")
    return raw


def decode(raw: bytes) -> AnyMessage:
    """Read a message; fields that this release does not know are passed over.

    Raises:
        UnknownMessage: the tag is not known here.
        MalformedMessage: no message at all, or a known tag with missing or wrong fields.
    """
    try:
        return _DECODER.decode(raw)
    except msgspec.DecodeError as error:
        tag = _find_tag(raw)
        if tag is not None and tag not in _KNOWN_TAGS:
            raise UnknownMessage(tag) from error
        raise MalformedMessage(f"{tag or 'no tag'}: {error}") from error


def _find_tag(raw: bytes) -> str | None:
    try:
        return _TAG_DECODER.decode(raw).tag
    except msgspec.DecodeError:
        return None
