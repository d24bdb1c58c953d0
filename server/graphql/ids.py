"""Global ids: opaque to clients, ``base64url("<type>:<uuid as hex>")`` without padding to us."""

import base64
import binascii
from uuid import UUID

import msgspec
import strawberry

from server.errors import InvalidInput

#: Longer than the longest id of ours; what is longer is cut and then is no id.
_MAX_LENGTH = 128


class GlobalId(msgspec.Struct, frozen=True):
    """What an id says."""

    type_name: str
    id: UUID


def encode(type_name: str, object_id: UUID) -> strawberry.ID:
    """Write the id of an object of a GraphQL type."""
    raw = f"{type_name}:{object_id.hex}".encode()
    return strawberry.ID(base64.urlsafe_b64encode(raw).rstrip(b"=").decode())


def decode(value: str, path: tuple[str, ...]) -> GlobalId:
    """Read an id.

    Args:
        value: what the client sent.
        path: where it stood in the client's input.

    Raises:
        InvalidInput: it is no id of ours.
    """
    padded = value[:_MAX_LENGTH] + "=" * (-len(value) % 4)
    try:
        type_name, _, number = base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition(":")
        return GlobalId(type_name, UUID(hex=number))
    except (ValueError, binascii.Error) as error:
        raise InvalidInput("This is not an id.", path=path) from error


def decode_as(type_name: str, value: str, path: tuple[str, ...]) -> UUID:
    """Read an id where an object of one type is meant; the plain UUID of the REST face is understood too.

    Raises:
        InvalidInput: it is no id, or the id of something else.
    """
    try:
        return UUID(value)
    except ValueError:
        decoded = decode(value, path)
    if decoded.type_name != type_name:
        raise InvalidInput(f"This is not the id of a {type_name}.", path=path)
    return decoded.id
