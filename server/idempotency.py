"""The same key with the same request answers with the same job."""

import hashlib
from typing import Any, Final
from uuid import UUID

import msgspec

from server.database import Database
from server.errors import Conflict, InvalidInput

_MAX_KEY_LENGTH: Final = 200


def check_key(key: str | None) -> None:
    """Check what a caller has chosen as the key of a request.

    Raises:
        InvalidInput: it is too long, empty or not printable (path ``idempotency_key``).
    """
    # PostgreSQL takes neither NUL nor half a surrogate pair, and neither is printable.
    if key is not None and not (0 < len(key) <= _MAX_KEY_LENGTH and key.isprintable()):
        raise InvalidInput(
            f"An idempotency key has 1 to {_MAX_KEY_LENGTH} printable characters.", path=("idempotency_key",)
        )


def digest_of(asked: Any) -> bytes:  # noqa: ANN401 - whatever msgpack takes
    """Return what tells two requests under one key apart."""
    return hashlib.sha256(msgspec.msgpack.encode(asked)).digest()


async def find_earlier_job(
    db: Database, user_id: UUID, kind: str, *, key: str | None, digest: bytes | None
) -> UUID | None:
    """Return the user's job that an earlier request with this key has made.

    A request without a digest is one that can't have made any.

    Raises:
        Conflict: that was another request (path ``idempotency_key``).
    """
    if key is None or digest is None:
        return None
    row = await db.fetch_one(
        "SELECT id, request_digest FROM jobs WHERE user_id = {} AND kind = {} AND idempotency_key = {}",
        user_id,
        kind,
        key,
    )
    if row is None:
        return None
    if row["request_digest"] != digest:
        raise Conflict("This key was used for another request.", path=("idempotency_key",))
    found: UUID = row["id"]
    return found
