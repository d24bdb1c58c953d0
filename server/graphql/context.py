"""What a resolver may use: the services, who asks, and what the answer is given beside its data."""

from collections.abc import Awaitable
from typing import TypeVar

import msgspec
import strawberry
from litestar.datastructures import Cookie

from server.auth.cookies import no_session_cookie, session_cookie
from server.auth.principal import Principal
from server.auth.sessions import LogIn
from server.disconnects import Receive, while_connected
from server.errors import ErrorCode, ServiceError
from server.graphql.loaders import Loaders
from server.records import Client
from server.services import Services

T = TypeVar("T")


class QueryLimitReached(ServiceError):
    """An operation asked for more than one answer may hold."""

    code = ErrorCode.QUERY_LIMIT


class Context(msgspec.Struct, kw_only=True, eq=False):
    """One operation's surroundings.

    Attributes:
        principal: None for somebody who has not signed in.
        refusal: why the credential that came with the request is none, if there was one.
        cookies: to be set with the answer, where the transport can.
        nodes_left: how many more nodes the answer may hold.
        receive: where an HTTP client's leaving can be heard; what belongs to a socket is cancelled with it.
    """

    services: Services
    principal: Principal | None
    refusal: ServiceError | None = None
    client: Client
    loaders: Loaders
    nodes_left: int
    secure_cookies: bool = False
    cookies: list[Cookie] = msgspec.field(default_factory=list)
    receive: Receive | None = None

    async def while_wanted(self, work: Awaitable[T]) -> T:
        """Wait for work that changes nothing, and cancel it when the client goes.

        Raises:
            ClientGone: the client went first.
        """
        return await work if self.receive is None else await while_connected(self.receive, work)

    def spend(self, nodes: int) -> None:
        """Count nodes of the answer before they are made.

        Raises:
            QueryLimitReached: there are too many of them in one operation.
        """
        self.nodes_left -= nodes
        if self.nodes_left < 0:
            raise QueryLimitReached("One operation can't be answered with so many nodes.")

    def for_event(self, nodes: int) -> "Context":
        """Return the surroundings of one event of a subscription, whose look-ups begin anew.

        Args:
            nodes: how many the answer to the event may hold.
        """
        loaders = Loaders(self.services, self.principal)
        return msgspec.structs.replace(self, loaders=loaders, nodes_left=nodes)

    def begin_session(self, log_in: LogIn) -> None:
        """Give the browser a cookie for a new session."""
        lifetime = log_in.session.expires_at - log_in.session.created_at
        cookie = session_cookie(log_in.token, secure=self.secure_cookies, max_age_s=lifetime.total_seconds())
        self.cookies.append(cookie)

    def end_session(self) -> None:
        """Take the browser's cookie away."""
        self.cookies.append(no_session_cookie(secure=self.secure_cookies))


Info = strawberry.Info[Context, None]
