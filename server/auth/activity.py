"""When a credential was last used, written by the batch: not one write a request."""

from datetime import UTC, datetime
from uuid import UUID

from server.auth.principal import CredentialKind, Principal
from server.database import Database
from server.repeating import Repeating

_FLUSH_EVERY_S = 2.0

_UPDATES = {
    CredentialKind.SESSION: (
        "UPDATE sessions SET last_seen_at = greatest(last_seen_at, seen.at) "
        "FROM unnest({}::uuid[], {}::timestamptz[]) AS seen (id, at) WHERE sessions.id = seen.id"
    ),
    CredentialKind.API_KEY: (
        "UPDATE api_keys SET last_used_at = greatest(last_used_at, seen.at) "
        "FROM unnest({}::uuid[], {}::timestamptz[]) AS seen (id, at) WHERE api_keys.id = seen.id"
    ),
}


class Activity:
    """Remembers uses and writes them down every two seconds; what a crash loses is that much."""

    def __init__(self, db: Database) -> None:
        self._db = db
        # Bounded by the credentials in use since the last write: without a database none is let in.
        self._seen: dict[CredentialKind, dict[UUID, datetime]] = {kind: {} for kind in CredentialKind}
        self._repeating = Repeating(self.flush, name="activity", every_s=_FLUSH_EVERY_S)

    def note(self, principal: Principal) -> None:
        """The credential was used now."""
        self._seen[principal.kind][principal.credential_id] = datetime.now(UTC)

    def start(self) -> None:
        """Begin to write."""
        self._repeating.start()

    async def close(self) -> None:
        """Write what is left and stop."""
        await self._repeating.close()
        await self.flush()

    async def flush(self) -> None:
        """Write what was noted since the last time; what can't be written now is kept."""
        for kind, update in _UPDATES.items():
            seen = self._seen[kind]
            if not seen:
                continue
            self._seen[kind] = {}
            # In one order everywhere, so that two replicas rarely wait for each other's rows.
            batch = sorted(seen.items())
            try:
                await self._db.execute(
                    update, [credential_id for credential_id, _ in batch], [at for _, at in batch]
                )
            except BaseException:
                # Later uses win over what could not be written.
                self._seen[kind] = seen | self._seen[kind]
                raise
