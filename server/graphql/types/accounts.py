"""The account: its user, sessions and API keys, and the lists that belong to it."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

import strawberry

from server.auth.principal import CredentialKind, Principal
from server.errors import Forbidden
from server.graphql import ids
from server.graphql.connections import After, Before, Connection, First, Last, connection, page_request
from server.graphql.context import Info
from server.graphql.guards import require_principal
from server.graphql.types.datasets import Dataset
from server.graphql.types.enums import Scope
from server.graphql.types.files import File
from server.graphql.types.generations import GenerationJob
from server.graphql.types.jobs import EmbeddingJob
from server.graphql.types.node import Node
from server.graphql.types.training import Model, TrainingJob
from server.graphql.types.usage import Usage
from server.records import ApiKeyRecord, SessionRecord, UserRecord


@strawberry.type(description="One log-in.")
class Session(Node):
    """A session that has not ended."""

    created_at: datetime = strawberry.field(description="When it began.")
    last_seen_at: datetime = strawberry.field(description="When it was last used.")
    expires_at: datetime | None = strawberry.field(description="When it ends at the latest.")
    ip_address: str | None = strawberry.field(description="Where it began.")
    user_agent: str | None = strawberry.field(description="The program that logged in, in its own words.")
    device_name: str | None = strawberry.field(description="The name given at log-in.")
    is_current: bool = strawberry.field(description="Whether this request uses it.")

    @classmethod
    def of(cls, record: SessionRecord, principal: Principal | None) -> Self:
        """Reshape a service's record."""
        return cls(
            id=ids.encode("Session", record.id),
            created_at=record.created_at,
            last_seen_at=record.last_seen_at,
            expires_at=record.expires_at,
            ip_address=record.ip_address,
            user_agent=record.user_agent,
            device_name=record.device_name,
            is_current=principal is not None
            and principal.kind is CredentialKind.SESSION
            and principal.credential_id == record.id,
        )


@strawberry.type(description="A key for programs. Its secret is shown once, when it is made.")
class ApiKey(Node):
    """An API key without its secret."""

    name: str = strawberry.field(description="What it is for.")
    prefix: str = strawberry.field(description="The first characters of the secret, to tell keys apart.")
    scopes: list[Scope] = strawberry.field(description="What it may do.")
    created_at: datetime = strawberry.field(description="When it was made.")
    expires_at: datetime | None = strawberry.field(description="When it stops working by itself.")
    last_used_at: datetime | None = strawberry.field(description="When it was last used, to the minute.")
    revoked_at: datetime | None = strawberry.field(description="When it was revoked.")

    @classmethod
    def of(cls, record: ApiKeyRecord) -> Self:
        """Reshape a service's record."""
        return cls(
            id=ids.encode("ApiKey", record.id),
            name=record.name,
            prefix=record.prefix,
            scopes=sorted(record.scopes),
            created_at=record.created_at,
            expires_at=record.expires_at,
            last_used_at=record.last_used_at,
            revoked_at=record.revoked_at,
        )


@strawberry.type(description="A person with an account.")
class User(Node):
    """The principal's own account; there is no way to another's."""

    email: str = strawberry.field(description="The address the account was made with.")
    created_at: datetime = strawberry.field(description="When the account was made.")
    user_id: strawberry.Private[UUID]

    @strawberry.field(description="Log-ins that have not ended. Needs READ.")
    async def sessions(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[Session]:
        """Page through sessions."""
        principal = self._require(info, Scope.READ)
        request = page_request(first=first, after=after, last=last, before=before)
        page = await info.context.services.sessions.page(self.user_id, request)
        return connection(info.context, page, lambda record: Session.of(record, principal))

    @strawberry.field(description="API keys, revoked ones too. Needs READ.")
    async def api_keys(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[ApiKey]:
        """Page through API keys."""
        self._require(info, Scope.READ)
        request = page_request(first=first, after=after, last=last, before=before)
        page = await info.context.services.api_keys.page(self.user_id, request)
        return connection(info.context, page, ApiKey.of)

    @strawberry.field(description="Uploaded files. Needs READ, EMBED or TRAIN.")
    async def files(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[File]:
        """Page through files."""
        self._require(info, Scope.READ, Scope.EMBED, Scope.TRAIN)
        request = page_request(first=first, after=after, last=last, before=before)
        page = await info.context.services.uploads.page(self.user_id, request)
        return connection(info.context, page, File.of)

    @strawberry.field(description="Embedding jobs. Needs READ or EMBED.")
    async def embedding_jobs(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[EmbeddingJob]:
        """Page through embedding jobs."""
        self._require(info, Scope.READ, Scope.EMBED)
        request = page_request(first=first, after=after, last=last, before=before)
        page = await info.context.services.embedding_jobs.page(self.user_id, request)
        return connection(info.context, page, EmbeddingJob.of)

    @strawberry.field(description="Data sets. Needs READ or TRAIN.")
    async def datasets(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[Dataset]:
        """Page through data sets."""
        self._require(info, Scope.READ, Scope.TRAIN)
        request = page_request(first=first, after=after, last=last, before=before)
        page = await info.context.services.datasets.page(self.user_id, request)
        return connection(info.context, page, Dataset.of)

    @strawberry.field(description="Trainings. Needs READ or TRAIN.")
    async def training_jobs(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[TrainingJob]:
        """Page through trainings."""
        self._require(info, Scope.READ, Scope.TRAIN)
        request = page_request(first=first, after=after, last=last, before=before)
        page = await info.context.services.training_jobs.page(self.user_id, request)
        return connection(info.context, page, TrainingJob.of)

    @strawberry.field(description="Models, deployed or not. Needs READ or TRAIN.")
    async def models(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[Model]:
        """Page through models, deployed or not."""
        self._require(info, Scope.READ, Scope.TRAIN)
        request = page_request(first=first, after=after, last=last, before=before)
        page = await info.context.services.models.page(self.user_id, request)
        return connection(info.context, page, Model.of)

    @strawberry.field(description="Generations. Needs READ or TRAIN.")
    async def generation_jobs(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[GenerationJob]:
        """Page through generations."""
        self._require(info, Scope.READ, Scope.TRAIN)
        request = page_request(first=first, after=after, last=last, before=before)
        page = await info.context.services.generations.page(self.user_id, request)
        return connection(info.context, page, GenerationJob.of)

    @strawberry.field(description="What the account has used. Needs READ, EMBED or TRAIN.")
    async def usage(
        self,
        info: Info,
        since: Annotated[
            datetime | None, strawberry.argument(description="Count from the hour of this moment on.")
        ] = None,
    ) -> Usage:
        """Add up what was used."""
        self._require(info, Scope.READ, Scope.EMBED, Scope.TRAIN)
        return Usage.of(await info.context.services.usage.total(self.user_id, since))

    def _require(self, info: Info, *scopes: Scope) -> Principal:
        principal = require_principal(info, *scopes)
        if principal.user_id != self.user_id:
            # The payload of signUp and logIn may show an account other than the caller's.
            raise Forbidden("This account's lists are for a credential of its own.")
        return principal

    @classmethod
    def of(cls, record: UserRecord) -> Self:
        """Reshape a service's record."""
        return cls(
            id=ids.encode("User", record.id),
            email=record.email,
            created_at=record.created_at,
            user_id=record.id,
        )
