"""A server that leaves its port without cutting anybody off.

Uvicorn closes its listeners and then whatever connection it has not yet read a request from. Two kinds of
clients would see a broken connection and could not know whether their request was run: those whom the
kernel had accepted for us, and those whom we had accepted a moment ago. Both are served here; who comes
later is refused by the kernel, which is safe to try elsewhere.
"""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress

import uvicorn

from server.draining import Draining

#: How long the request of a connection that was just made may take to come.
_LINGER_S = 0.25
_SETTLE_S = 0.01
_LOOK_S = 0.1


class LeavingServer(uvicorn.Server):
    """Uvicorn, leaving in order."""

    def __init__(self, config: uvicorn.Config, draining: Draining, *, notice_s: float = 0.0) -> None:
        super().__init__(config)
        self._draining = draining
        self._notice_s = notice_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Give notice, take no more connections, finish what has begun, then leave."""
        self._draining.announce()
        await self._give_notice()
        self._draining.begin()
        await self._close_door(sockets or [])
        await asyncio.sleep(_LINGER_S)
        await super().shutdown(sockets)

    async def _give_notice(self) -> None:
        """Serve on while whoever sends us clients hears that they should go elsewhere."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._notice_s
        while loop.time() < until and not self.force_exit:  # noqa: ASYNC110 - it is no task that tells
            await asyncio.sleep(min(_LOOK_S, self._notice_s))

    async def _close_door(self, listeners: Sequence[socket.socket]) -> None:
        # Copies keep the door open while the event loop lets go of it.
        copies = [listener.dup() for listener in listeners]
        for server in self.servers:
            server.close()
        for listener in listeners:
            listener.close()
        # An event loop may close what it listens on a turn later than it says so.
        await asyncio.sleep(_SETTLE_S)
        for copy in copies:
            copy.settimeout(0.0)
            waiting: list[socket.socket] = []
            with suppress(BlockingIOError), copy:
                while True:
                    waiting.append(copy.accept()[0])
            for connection in waiting:
                await self._take_in(connection)

    async def _take_in(self, connection: socket.socket) -> None:
        protocol = self.config.http_protocol_class
        # One that has hung up meanwhile is nobody's loss.
        with suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol(
                    config=self.config,  # type: ignore[call-arg]
                    server_state=self.server_state,
                    app_state=self.lifespan.state,
                ),
                connection,
            )
