"""Signing up, in and out."""

from typing import Annotated

import strawberry

from server.auth.principal import CredentialKind
from server.errors import Forbidden as NotASession
from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.types.accounts import Session, User
from server.graphql.types.errors import (
    Busy,
    Conflict,
    Forbidden,
    InvalidCredentials,
    InvalidInput,
    RateLimited,
)


@strawberry.input(description="A new account.")
class SignUpInput:
    """Arguments of signUp."""

    email: str = strawberry.field(description="An address of yours.")
    password: str = strawberry.field(description="At least 15 characters, of any kind.")


@strawberry.type(description="The new account.")
class SignUpPayload:
    """Answer of signUp."""

    user: User | None = strawberry.field(
        description="The account; null where an address must be confirmed first."
    )
    verification_required: bool = strawberry.field(
        description="Whether the address must be confirmed before the account can be used."
    )


@strawberry.input(description="Who logs in.")
class LogInInput:
    """Arguments of logIn."""

    email: str = strawberry.field(description="The address of the account.")
    password: str = strawberry.field(description="Its password.")
    device_name: str | None = strawberry.field(
        default=None, description="How the session is called in the list of sessions."
    )


@strawberry.type(description="The new session.")
class LogInPayload:
    """Answer of logIn."""

    token: str = strawberry.field(
        description="The session's token, shown here once; browsers also get a cookie."
    )
    session: Session = strawberry.field(description="The session.")
    user: User = strawberry.field(description="The account.")


@strawberry.type(description="The session has ended.")
class LogOutPayload:
    """Answer of logOut."""

    ok: bool = strawberry.field(description="Always true.")


SignUpResult = Annotated[
    SignUpPayload | InvalidInput | Conflict | RateLimited | Busy,
    strawberry.union("SignUpResult", description="A new account, or why there is none."),
]
LogInResult = Annotated[
    LogInPayload | InvalidInput | InvalidCredentials | RateLimited | Busy,
    strawberry.union("LogInResult", description="A new session, or why there is none."),
]
LogOutResult = Annotated[
    LogOutPayload | Forbidden,
    strawberry.union("LogOutResult", description="That the session has ended, or why it has not."),
]


@strawberry.type
class AccountMutations:
    """Accounts and their sessions."""

    @strawberry.mutation(description="Make an account.")
    async def sign_up(
        self,
        info: Info,
        request: Annotated[SignUpInput, strawberry.argument(name="input", description="The new account.")],
    ) -> SignUpResult:
        """Make an account."""
        context = info.context
        record = await context.services.accounts.sign_up(
            request.email, request.password, client=context.client
        )
        return SignUpPayload(user=User.of(record), verification_required=False)

    @strawberry.mutation(description="Begin a session. Over HTTP the answer also sets a cookie.")
    async def log_in(
        self,
        info: Info,
        request: Annotated[LogInInput, strawberry.argument(name="input", description="Who logs in.")],
    ) -> LogInResult:
        """Begin a session."""
        context = info.context
        log_in = await context.services.sessions.log_in(
            request.email, request.password, client=context.client, device_name=request.device_name
        )
        context.begin_session(log_in)
        return LogInPayload(
            token=log_in.token,
            session=Session.of(log_in.session, context.principal),
            user=User.of(log_in.user),
        )

    @strawberry.mutation(description="End the session that asks; its sockets are closed.")
    async def log_out(self, info: Info) -> LogOutResult:
        """End the caller's session."""
        principal = require_principal(info)
        if principal.kind is not CredentialKind.SESSION:
            raise NotASession("An API key is not a session: revoke it to end it.")
        await info.context.services.sessions.end(principal.credential_id, principal.user_id)
        info.context.end_session()
        return LogOutPayload(ok=True)
