"""Open sockets by the credential that opened them, so that its end closes them on every replica."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from uuid import UUID

import msgspec

from bus.envelope import Message
from bus.messages import AccessRevoked
from bus.port import Bus, Subscription
from bus.subjects import ACCESS_REVOKED
from server.auth.activity import Activity
from server.auth.authenticator import Authenticator
from server.auth.principal import Principal
from server.errors import RateLimited
from server.repeating import Repeating

#: The close code of a connection whose credential does not hold (graphql-transport-ws: Forbidden).
FORBIDDEN = 4403

_SWEEP_EVERY_S = 15.0
_MAX_OF_USER = 1000
_RETRY_AFTER_S = 5.0
#: A peer that does not answer a close must not hold up the others.
_CLOSE_TIMEOUT_S = 5.0

Close = Callable[[int, str], Awaitable[None]]

_logger = logging.getLogger(__name__)


class SocketHandle(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One registered socket."""

    principal: Principal
    close: Close


class SocketRegistry:
    """Closes sockets when their credential ends.

    Revocations arrive over the bus within a second. A sweep finds what time has ended, and what was
    revoked while the bus was away.
    """

    def __init__(
        self, bus: Bus, authenticator: Authenticator, activity: Activity, *, max_of_user: int = _MAX_OF_USER
    ) -> None:
        self._max_of_user = max_of_user
        self._bus = bus
        self._authenticator = authenticator
        self._activity = activity
        #: By credential: those that its end has to close.
        self._handles: dict[UUID, set[SocketHandle]] = {}
        #: By user: those that are open, or are being closed.
        self._open: dict[UUID, set[SocketHandle]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None
        self._sweeping = Repeating(self.sweep, name="socket sweep", every_s=_SWEEP_EVERY_S)

    async def start(self) -> None:
        """Begin to follow revocations."""
        self._subscription = await self._bus.follow(ACCESS_REVOKED, self._on_message)
        self._bus.on_reconnect(self._on_reconnect)
        self._sweeping.start()

    async def close(self) -> None:
        """Stop following; the sockets themselves belong to the server."""
        if self._subscription is not None:
            await self._subscription.close()
        await self._sweeping.close()
        if self._closing:
            await asyncio.wait(self._closing)

    def register(self, principal: Principal, close: Close) -> SocketHandle:
        """Remember a socket. Then verify its credential again; ``admit`` does both.

        Args:
            principal: who opened it.
            close: closes it with a code and a reason; may fail if it is closed already.
        """
        handle = SocketHandle(principal=principal, close=close)
        self._handles.setdefault(principal.credential_id, set()).add(handle)
        self._open.setdefault(principal.user_id, set()).add(handle)
        return handle

    def require_room(self, principal: Principal) -> None:
        """Return if the user may open one more socket or event stream on this server.

        Raises:
            RateLimited: enough of them are open.
        """
        if len(self._open.get(principal.user_id, ())) >= self._max_of_user:
            message = f"You have {self._max_of_user} open sockets and event streams: close some first."
            raise RateLimited(message, retry_after_s=_RETRY_AFTER_S)

    async def admit(self, principal: Principal, close: Close) -> SocketHandle:
        """Register a socket and verify its credential once more, in this order.

        A revocation between the two checks is seen by the second one, and a later one finds the socket.

        Raises:
            RateLimited: the user has too many already.
            Unauthenticated: the credential ended in between; the socket is not registered.
        """
        self.require_room(principal)
        handle = self.register(principal, close)
        try:
            await self._authenticator.verify(principal)
        except BaseException:
            self.release(handle)
            raise
        return handle

    def release(self, handle: SocketHandle) -> None:
        """Forget a socket that is closed. Forgetting twice is fine."""
        principal = handle.principal
        for table, key in ((self._handles, principal.credential_id), (self._open, principal.user_id)):
            handles = table.get(key, set())
            handles.discard(handle)
            if not handles:
                table.pop(key, None)

    async def sweep(self) -> None:
        """Close the sockets of credentials that no longer hold; an open socket counts as use."""
        principals = {
            credential_id: next(iter(handles)).principal for credential_id, handles in self._handles.items()
        }
        if not principals:
            return
        ended = await self._authenticator.find_ended(principals.values())
        for credential_id, principal in principals.items():
            if credential_id in ended:
                self._end(credential_id, ended[credential_id])
            else:
                self._activity.note(principal)

    async def _on_message(self, message: Message) -> None:
        if isinstance(message, AccessRevoked):
            self._end(UUID(message.credential_id), message.reason)

    async def _on_reconnect(self) -> None:
        self._sweeping.wake()

    def _end(self, credential_id: UUID, reason: str) -> None:
        # Taken out at once: nobody closes a socket twice.
        self._close_all(self._handles.pop(credential_id, ()), reason)

    def _close_all(self, handles: Iterable[SocketHandle], reason: str) -> None:
        for handle in handles:
            task = asyncio.create_task(_close(handle, reason), name="close socket")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


async def _close(handle: SocketHandle, reason: str) -> None:
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await handle.close(FORBIDDEN, reason)
    except Exception:
        # The edge that must survive: the peer may be gone in any state, and the other sockets wait.
        _logger.info("a socket whose credential has ended could not be closed in order", exc_info=True)
