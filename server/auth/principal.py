"""Who is asking."""

from enum import StrEnum
from uuid import UUID

import msgspec

from server.errors import Forbidden


class Scope(StrEnum):
    """What an API key may do."""

    EMBED = "EMBED"
    TRAIN = "TRAIN"
    READ = "READ"
    ADMIN = "ADMIN"


class CredentialKind(StrEnum):
    """How the caller proved who they are."""

    SESSION = "SESSION"
    API_KEY = "API_KEY"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated caller: a user, through one credential. A session holds every scope."""

    user_id: UUID
    credential_id: UUID
    kind: CredentialKind
    scopes: frozenset[Scope]

    def require(self, *scopes: Scope) -> None:
        """Pass if the credential holds one of ``scopes`` or ADMIN.

        Raises:
            Forbidden: it holds none of them.
        """
        if not self.scopes & {*scopes, Scope.ADMIN}:
            wanted = " or ".join(scopes)
            raise Forbidden(f"This credential lacks the scope {wanted}.")
