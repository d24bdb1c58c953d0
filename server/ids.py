"""Identifiers of rows: UUIDv7, so that newer rows have greater ids and an index on them is in time order."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """Return an id greater than every id this process has made before (RFC 9562, section 5.7)."""
    return uuid7()
