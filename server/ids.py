"""Identifiers of rows: UUIDv7, so that newer rows have greater ids and an index on them is in time order."""

from hashlib import sha256
from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """Return an id greater than every id this process has made before (RFC 9562, section 5.7)."""
    return uuid7()


def model_id_of(job_id: UUID, attempt: int) -> UUID:
    """Return the id of the model that an attempt of a training makes: the same whenever it is asked.

    A UUIDv7 again: the time of the job's id, then the attempt (12 bits), so that later ones are greater, then
    62 bits of a digest.
    """
    digest = int.from_bytes(sha256(job_id.bytes + attempt.to_bytes(8, "big")).digest()[:8], "big")
    milliseconds = job_id.int >> 80
    return UUID(
        int=milliseconds << 80 | 0x7 << 76 | (attempt & 0xFFF) << 64 | 0b10 << 62 | digest & (1 << 62) - 1
    )
