"""Accounts, sessions and API keys over REST: a thin face of the services in server/auth."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Meta

from server.auth.accounts import Accounts
from server.auth.api_keys import ApiKeys
from server.auth.cookies import no_session_cookie, session_cookie
from server.auth.guards import client_of
from server.auth.principal import CredentialKind, Principal, Scope
from server.auth.sessions import LogIn, Sessions
from server.errors import Forbidden
from server.records import ApiKeyRecord, SessionRecord, UserRecord
from server.rest.bodies import check_texts, decode_body, require_json
from server.rest.documents import json_body
from server.rest.pages import After, First, PageBody, page_body, page_request

Password = Annotated[str, Meta(description="15 to 256 characters, kept exactly as sent.")]


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of request bodies."""


class SignUpBody(Input, frozen=True):
    """A new account."""

    email: Annotated[str, Meta(description="An e-mail address, of at most 254 characters.")]
    password: Password


class LogInBody(Input, frozen=True):
    """An address and its password."""

    email: str
    password: Password
    device_name: Annotated[str | None, Meta(description="Shown in the list of sessions.")] = None


class NewKeyBody(Input, frozen=True):
    """A new API key."""

    name: Annotated[str, Meta(description="1 to 100 characters, for your own list.")]
    scopes: Annotated[list[Scope], Meta(description="What the key may do: EMBED, TRAIN, READ, ADMIN.")]
    expires_at: Annotated[datetime | None, Meta(description="With a time zone; null for no end.")] = None


class UserBody(msgspec.Struct, frozen=True, kw_only=True):
    """An account."""

    id: UUID
    email: str
    created_at: datetime


class SessionBody(msgspec.Struct, frozen=True, kw_only=True):
    """One log-in."""

    id: UUID
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    ip_address: str | None
    user_agent: str | None
    device_name: str | None
    #: Whether this request came with it.
    is_current: bool


class LogInAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A new session. The token is shown this once; browsers also get it as a cookie."""

    token: str
    session: SessionBody
    user: UserBody


class ApiKeyBody(msgspec.Struct, frozen=True, kw_only=True):
    """An API key, without its secret."""

    id: UUID
    name: str
    #: The start of the secret, to recognise it by.
    prefix: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class NewKeyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A new API key. The secret is shown this once."""

    secret: str
    api_key: ApiKeyBody


class AccountsController(Controller):
    """Sign up, log in and out, and manage sessions and API keys."""

    path = "/v1"
    tags = ("accounts",)

    @post("/users", guards=[require_json], operation_class=json_body(SignUpBody))
    async def sign_up(self, request: Request[Any, Any, Any], accounts: NamedDependency[Accounts]) -> UserBody:
        """Make an account, which can be used at once.

        INVALID_INPUT names the field at fault; CONFLICT means that the address has an account.
        """
        data = decode_body(await request.body(), SignUpBody, check=check_texts)
        return _user(await accounts.sign_up(data.email, data.password, client=client_of(request)))

    @post("/sessions", guards=[require_json], operation_class=json_body(LogInBody))
    async def log_in(
        self,
        request: Request[Any, Any, Any],
        sessions: NamedDependency[Sessions],
        secure_cookies: NamedDependency[bool],
    ) -> Response[LogInAnswer]:
        """Open a session. Answers with its token, as a cookie too.

        The cookie counts only beside a non-empty `X-Requested-With` header.
        """
        data = decode_body(await request.body(), LogInBody, check=check_texts)
        done = await sessions.log_in(
            data.email, data.password, client=client_of(request), device_name=data.device_name
        )
        return Response(_log_in(done), cookies=[_cookie(done, secure=secure_cookies)])

    @delete("/sessions")
    async def log_out(
        self,
        principal: NamedDependency[Principal],
        sessions: NamedDependency[Sessions],
        secure_cookies: NamedDependency[bool],
    ) -> Response[None]:
        """End the session this request came with."""
        if principal.kind is not CredentialKind.SESSION:
            raise Forbidden("An API key has no session to end; revoke the key instead.")
        await sessions.end(principal.credential_id, principal.user_id)
        return Response(None, cookies=[no_session_cookie(secure=secure_cookies)])

    @get("/sessions")
    async def list_sessions(
        self,
        principal: NamedDependency[Principal],
        sessions: NamedDependency[Sessions],
        first: First = None,
        after: After = None,
    ) -> PageBody[SessionBody]:
        """List the open sessions of your account, newest first."""
        principal.require(Scope.READ)
        page = await sessions.page(principal.user_id, page_request(first, after))
        return page_body(page, lambda record: _session(record, current_id=principal.credential_id))

    @delete("/sessions/{session_id:uuid}")
    async def end_session(
        self,
        session_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        sessions: NamedDependency[Sessions],
    ) -> None:
        """End one session of your account. Its sockets close within a second."""
        principal.require(Scope.ADMIN)
        await sessions.end(session_id, principal.user_id)

    @post("/keys", guards=[require_json], operation_class=json_body(NewKeyBody))
    async def create_key(
        self,
        request: Request[Any, Any, Any],
        principal: NamedDependency[Principal],
        api_keys: NamedDependency[ApiKeys],
    ) -> NewKeyAnswer:
        """Make an API key. Needs a session, or a key with the scope ADMIN."""
        data = decode_body(await request.body(), NewKeyBody, check=check_texts)
        made = await api_keys.create(
            principal, name=data.name, scopes=data.scopes, expires_at=data.expires_at
        )
        return NewKeyAnswer(secret=made.secret, api_key=_api_key(made.api_key))

    @get("/keys")
    async def list_keys(
        self,
        principal: NamedDependency[Principal],
        api_keys: NamedDependency[ApiKeys],
        first: First = None,
        after: After = None,
    ) -> PageBody[ApiKeyBody]:
        """List the API keys of your account, revoked ones too, newest first."""
        principal.require(Scope.READ)
        return page_body(await api_keys.page(principal.user_id, page_request(first, after)), _api_key)

    @delete("/keys/{key_id:uuid}")
    async def revoke_key(
        self,
        key_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        api_keys: NamedDependency[ApiKeys],
    ) -> None:
        """Revoke an API key. It is refused at once, and its sockets close within a second."""
        await api_keys.revoke(principal, key_id)


def _cookie(done: LogIn, *, secure: bool) -> Cookie:
    lifetime = done.session.expires_at - done.session.created_at
    return session_cookie(done.token, secure=secure, max_age_s=lifetime.total_seconds())


def _user(record: UserRecord) -> UserBody:
    return UserBody(id=record.id, email=record.email, created_at=record.created_at)


def _session(record: SessionRecord, *, current_id: UUID) -> SessionBody:
    return SessionBody(
        id=record.id,
        created_at=record.created_at,
        last_seen_at=record.last_seen_at,
        expires_at=record.expires_at,
        ip_address=record.ip_address,
        user_agent=record.user_agent,
        device_name=record.device_name,
        is_current=record.id == current_id,
    )


def _log_in(done: LogIn) -> LogInAnswer:
    return LogInAnswer(
        token=done.token, session=_session(done.session, current_id=done.session.id), user=_user(done.user)
    )


def _api_key(record: ApiKeyRecord) -> ApiKeyBody:
    return ApiKeyBody(
        id=record.id,
        name=record.name,
        prefix=record.prefix,
        scopes=sorted(record.scopes),
        created_at=record.created_at,
        expires_at=record.expires_at,
        last_used_at=record.last_used_at,
        revoked_at=record.revoked_at,
    )
