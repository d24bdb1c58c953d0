"""Who may no longer come in."""

from bus.envelope import Event


class AccessRevoked(Event, frozen=True, kw_only=True, tag="access.revoked.v1"):
    """A session or an API key has ended; every replica closes the sockets it opened."""

    credential_id: str
    reason: str
