"""A subscription that outlives the client it was made with."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

Receive = Callable[[Msg], Awaitable[None]]

#: What passes with time: no connection, a server that starts, a stream without a leader.
TRANSIENT = (
    nats.errors.NoRespondersError,
    nats.errors.TimeoutError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionDrainingError,
    nats.errors.ConnectionReconnectingError,
    nats.errors.OutboundBufferLimitError,
    nats.errors.StaleConnectionError,
    OSError,
    TimeoutError,
)

#: A channel that falls this far behind loses messages; the loss is logged and counted.
MAX_PENDING_MESSAGES = 65_536
MAX_PENDING_BYTES = 128 * 1024 * 1024


class Channel:
    """One subject, who receives what is published there, and the subscription of the moment."""

    def __init__(self, subject: str, queue: str, receive: Receive) -> None:
        self.subject = subject
        self._queue = queue
        self._receive = receive
        self._subscription: Subscription | None = None
        #: The task that receives at this moment.
        self.receiving: asyncio.Task[Any] | None = None

    async def bind(self, client: Client) -> None:
        """Subscribe with this client from now on."""

        # nats-py insists on a coroutine function, which a bound callable may not be.
        async def receive(message: Msg) -> None:
            self.receiving = asyncio.current_task()
            try:
                await self._receive(message)
            finally:
                self.receiving = None

        self._subscription = await client.subscribe(
            self.subject,
            queue=self._queue,
            cb=receive,
            pending_msgs_limit=MAX_PENDING_MESSAGES,
            pending_bytes_limit=MAX_PENDING_BYTES,
        )

    async def drain(self) -> None:
        """Unsubscribe; return when what had arrived by then was received."""
        if self._subscription is None:
            return
        # Connection lost: the server has forgotten the subscription already.
        with suppress(*TRANSIENT, nats.errors.BadSubscriptionError):
            drain: Callable[[], Awaitable[None]] = self._subscription.drain
            await drain()
        self._subscription = None
