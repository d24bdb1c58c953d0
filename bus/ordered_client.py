"""nats-py's client, whose pings keep their place."""

import asyncio

from nats.aio.client import Client


class OrderedClient(Client):
    """A client whose ping says something of all that was sent before it.

    nats-py keeps commands in a list of its own until another task writes them, and writes a ping at once,
    past that list. Its pong then comes before an UNSUB was sent, `Subscription.drain` takes that for the end,
    and what the server sends until it reads the UNSUB is thrown away.
    """

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        transport = self._transport
        if transport is not None and self.is_connected and self._pending:
            # As nats-py's own flusher does it: nothing comes in between.
            transport.writelines(self._pending)
            self._pending, self._pending_data_size = [], 0
        await super()._send_ping(future)
