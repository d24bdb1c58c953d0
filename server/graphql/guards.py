"""Who may ask for what, where the services take a user and not a principal."""

from server.auth.principal import Principal, Scope
from server.errors import Unauthenticated
from server.graphql.context import Info


def require_principal(info: Info, *scopes: Scope) -> Principal:
    """Return who asks, when they may: with no scope named, anybody who has signed in.

    Raises:
        Unauthenticated: nobody we know.
        Busy: the credential could not be checked.
        Forbidden: the credential holds none of ``scopes``.
    """
    context = info.context
    principal = context.principal
    if principal is None:
        raise context.refusal or Unauthenticated(
            "Sign in first: send `Authorization: Bearer` with a session token or an API key."
        )
    if scopes:
        principal.require(*scopes)
    return principal
