"""One NATS connection that is never given up.

nats-py reconnects by itself after a lost connection, but gives up for good after an error that the
server names, such as an expired credential; then a new client takes its place and every channel is
opened again. Errors that arrive on their own, above all refused permissions, are led back to the call
they belong to.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats.errors
from nats.aio.msg import Msg

from bus.channel import TRANSIENT, Channel, Receive
from bus.errors import BusError, BusUnavailable, NotPermitted
from bus.ordered_client import OrderedClient
from bus.pending import Pending, retrieve
from bus.tasks import Tasks

_log = logging.getLogger(__name__)

CONNECT_S = 2.0
LISTEN_S = 10.0
RECONNECT_WAIT_S = 0.25
REOPEN_WAIT_S = 1.0
#: A server that is frozen rather than gone is noticed after two of these without an answer.
PING_INTERVAL_S = 2
MAX_OUTSTANDING_PINGS = 2
#: Above the 6 s after which a silent connection is replaced, see `Connection.round_trip`.
PING_S = 30
DRAIN_S = 5
LOG_EVERY = 1000
NO_RESPONDERS = "503"

_REFUSED = re.compile("authoriz|authentic", re.IGNORECASE)
_PERMISSION = re.compile(r'permissions violation for (?:publish|subscription) to "([^"]*)"')


class Connection:
    """Requests, publishes and channels over one client at a time."""

    def __init__(self, url: str, *, name: str, credentials: Path | None) -> None:
        self._url = url
        self._name = name
        self._credentials = credentials
        self._client = OrderedClient()
        self._channels: set[Channel] = set()
        self._pending = Pending(self._client.new_inbox())
        self._connected = asyncio.Event()
        self._refused = asyncio.Event()
        self._last_error: Exception | None = None
        self._is_closing = False
        self._reconnected: list[Callable[[], Awaitable[None]]] = []
        self._tasks = Tasks()
        #: Messages lost because a channel did not keep up.
        self.num_dropped = 0

    @classmethod
    async def open(
        cls, url: str, *, name: str, credentials: Path | None = None, patience_s: float = 30.0
    ) -> "Connection":
        """Connect, waiting up to ``patience_s`` for a server that is still starting.

        Raises:
            BusUnavailable: no server accepted in time.
            NotPermitted: the server refuses the credential.
        """
        connection = cls(url, name=name, credentials=credentials)
        await connection._connect(patience_s)
        try:
            await connection.listen(connection._pending.replies, connection._pending.answer)
        except BaseException:
            await connection.close()
            raise
        return connection

    @property
    def pending(self) -> Pending:
        """What is under way; see there for refusals."""
        return self._pending

    def new_inbox(self) -> str:
        """Return a subject on which only this connection listens."""
        return self._client.new_inbox()

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> Msg:
        """Publish with a reply subject and return the reply.

        Raises:
            nats.errors.Error: nobody listens, no reply in time, or no connection.
            NotPermitted: this credential may not publish there.
        """
        with self._pending.expect(subject) as (reply, waiting):
            await self._client.publish(
                subject, payload, reply=reply, headers=None if headers is None else dict(headers)
            )
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await waiting
            except TimeoutError as error:
                raise nats.errors.TimeoutError from error
        if (answer.headers or {}).get("Status") == NO_RESPONDERS:
            raise nats.errors.NoRespondersError
        return answer

    async def publish(
        self, subject: str, payload: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Hand a message to the connection; it waits there while the connection is lost.

        Raises:
            BusUnavailable: too much is waiting, or the connection is closed.
        """
        try:
            await self._client.publish(
                subject, payload, reply=reply, headers=None if headers is None else dict(headers)
            )
        except nats.errors.Error as error:
            raise BusUnavailable(f"{subject}: {error}") from error

    async def listen(self, subject: str, receive: Receive, *, queue: str = "") -> Channel:
        """Receive what is published on the subject; the server knows of it when this returns.

        Raises:
            NotPermitted: this credential may not subscribe there.
            BusUnavailable: there is no connection, or the server did not answer.
        """
        if not await self.wait_until_connected(LISTEN_S):
            raise BusUnavailable(f"{subject}: no connection to the bus")
        channel = Channel(subject, queue, receive)
        with self._pending.watch(subject) as denied:
            try:
                await channel.bind(self._client)
                self._channels.add(channel)
                # The server answers in order: a refusal has arrived before this.
                await self.round_trip(LISTEN_S)
                if denied.done():
                    denied.result()
            except BaseException as error:
                await self.unlisten(channel)
                if isinstance(error, TRANSIENT):
                    raise BusUnavailable(f"{subject}: {error}") from error
                if isinstance(error, nats.errors.Error):
                    raise BusError(f"{subject}: {error}") from error
                raise
        return channel

    async def unlisten(self, channel: Channel) -> None:
        """Stop receiving; returns when what had arrived was received, or after 5 s."""
        self._channels.discard(channel)
        # Never cancelled, for the reason told in `round_trip`: draining pings too.
        await asyncio.wait({self._tasks.spawn(channel.drain(), "drain")}, timeout=DRAIN_S)

    async def round_trip(self, timeout_s: float) -> None:
        """Wait until the server has seen everything that was sent before.

        Raises:
            TimeoutError: it did not answer in time.
            nats.errors.Error: the connection is closed.
        """
        if not self._client.is_connected:
            raise nats.errors.ConnectionReconnectingError
        # A ping that is cancelled or times out leaves a cancelled future in nats-py's list of expected
        # pongs, and the late pong ends its read loop. So the ping is left to itself, for longer than it
        # takes to replace a silent connection, and only our waiting ends early. (Its `flush` is no
        # round trip: without a reader it returns at once.)
        ping = self._tasks.spawn(self._ping(), "ping")
        ping.add_done_callback(retrieve)
        done, _ = await asyncio.wait({ping}, timeout=timeout_s)
        if not done:
            raise TimeoutError(f"no answer from the bus within {timeout_s:g} s")
        ping.result()

    async def _ping(self) -> None:
        try:
            await self._client.rtt(timeout=PING_S)
        except RuntimeError as error:
            # What uvloop says of a transport that has closed and was not yet noticed.
            raise nats.errors.StaleConnectionError from error

    async def wait_until_connected(self, timeout_s: float) -> bool:
        """Wait for a connection; return whether there is one."""
        if self._connected.is_set():
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        return self._connected.is_set()

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call back after each lost connection that is there again."""
        self._reconnected.append(callback)

    def off_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Undo `on_reconnect`."""
        self._reconnected.remove(callback)

    async def close(self) -> None:
        """Drain every channel, send what is buffered, and disconnect; takes 10 s at most."""
        self._is_closing = True
        with suppress(*TRANSIENT):
            # A server that does not answer this would not let us drain either.
            await self.round_trip(CONNECT_S)
            async with asyncio.timeout(DRAIN_S):
                await self._client.drain()
        # Without a server what is still buffered cannot be sent; uvloop calls that a RuntimeError.
        with suppress(*TRANSIENT, RuntimeError):
            async with asyncio.timeout(DRAIN_S):
                await self._client.close()
        self._connected.clear()
        await self._tasks.cancel()

    async def _connect(self, patience_s: float) -> None:
        if self._credentials is not None:
            _check_credentials(self._credentials)
        client = OrderedClient()
        self._refused.clear()

        async def on_closed() -> None:
            if self._client is client and not self._is_closing:
                self._tasks.spawn(self._reopen(), "reopen")

        options: dict[str, Any] = {
            "servers": self._url.split(","),
            "name": self._name,
            "user_credentials": None if self._credentials is None else str(self._credentials),
            "connect_timeout": CONNECT_S,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_WAIT_S,
            "ping_interval": PING_INTERVAL_S,
            "max_outstanding_pings": MAX_OUTSTANDING_PINGS,
            "drain_timeout": DRAIN_S,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_reconnected,
            "closed_cb": on_closed,
        }
        # With unlimited reconnects nats-py never returns from a first connect that fails.
        connecting = asyncio.ensure_future(client.connect(**options))
        refused = asyncio.ensure_future(self._refused.wait())
        try:
            await asyncio.wait((connecting, refused), timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                if self._refused.is_set():
                    raise NotPermitted(f"the bus at {self._place()} refuses the credential")
                raise BusUnavailable(f"no bus at {self._place()}: {self._last_error}")
            connecting.result()
        except nats.errors.Error as error:
            raise BusUnavailable(f"no bus at {self._place()}: {error}") from error
        finally:
            refused.cancel()
            if connecting.cancel():
                await asyncio.wait((connecting,))
                with suppress(*TRANSIENT):
                    await client.close()
        self._client = client
        self._connected.set()

    def _place(self) -> str:
        """Return the address without the credential in it."""
        return ",".join(url.rpartition("@")[2].removeprefix("nats://") for url in self._url.split(","))

    async def _on_error(self, error: Exception) -> None:
        denial = _PERMISSION.search(str(error))
        if denial is not None:
            _log.warning("the bus refuses %s to this credential", denial[1])
            self._pending.refuse(denial[1])
        elif isinstance(error, nats.errors.SlowConsumerError):
            self.num_dropped += 1
            if self.num_dropped % LOG_EVERY == 1:
                _log.warning("%s: messages lost, %d so far", error.subject, self.num_dropped)
        else:
            self._last_error = error
            if _REFUSED.search(str(error)):
                self._refused.set()
            _log.debug("bus connection: %r", error)

    async def _on_disconnected(self) -> None:
        if not self._is_closing:
            _log.warning("lost the connection to the bus: %r", self._last_error)
        self._connected.clear()

    async def _on_reconnected(self) -> None:
        _log.warning("connected to the bus again")
        self._connected.set()
        for callback in self._reconnected:
            # Not awaited here: nats-py does not go on before this returns.
            self._tasks.spawn(_run(callback), "reconnect callback")

    async def _reopen(self) -> None:
        """Replace a client that nats-py has given up."""
        while True:
            try:
                await self._connect(LISTEN_S)
                break
            except (BusUnavailable, NotPermitted) as error:
                _log.warning("cannot connect again: %s", error)
                await asyncio.sleep(REOPEN_WAIT_S)
        for channel in tuple(self._channels):
            await channel.bind(self._client)
        await self._on_reconnected()


def _check_credentials(path: Path) -> None:
    """Look at a credentials file before nats-py does, which fails on a broken one in many ways."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise NotPermitted(f"the credentials file {path} can't be read: {error}") from error
    if not all(f"BEGIN {part}" in text for part in ("NATS USER JWT", "USER NKEY SEED")):
        raise NotPermitted(f"{path} is no credentials file: a user JWT and its seed should be in it")


async def _run(callback: Callable[[], Awaitable[None]]) -> None:
    await callback()
