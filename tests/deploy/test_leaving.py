"""A server that leaves refuses whoever comes later, and nobody who had come."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from litestar import Litestar, get
from litestar.di import Provide

from deploy.leaving import LeavingServer
from server.draining import Draining
from server.health import Health, HealthController
from server.telemetry import Telemetry
from tests.support.processes import until
from tests.support.waiting import until_true

SLOW = "/slow"
READY = "/health/ready"


class House:
    """A server in this event loop."""

    def __init__(self, server: LeavingServer, listener: socket.socket, go_on: asyncio.Event) -> None:
        self._listener = listener
        self._serving = asyncio.create_task(server._serve([listener]))
        self.server = server
        self.address = listener.getsockname()
        self.go_on = go_on

    def connect(self) -> socket.socket:
        """Connect at once, which takes the kernel's word and no turn of the event loop."""
        client = socket.create_connection(self.address)
        client.settimeout(0.0)
        return client

    async def leave(self) -> None:
        async with asyncio.timeout(10):
            await self.server.shutdown([self._listener])

    async def close(self) -> None:
        self._serving.cancel()
        await asyncio.wait({self._serving})


@pytest.fixture
async def house() -> AsyncIterator[House]:
    go_on = asyncio.Event()

    @get("/slow")
    async def slow() -> str:
        await go_on.wait()
        return "done"

    dependencies = {
        "health": Provide(lambda: Health({}), sync_to_thread=False),
        "telemetry": Provide(lambda: Telemetry(service="test"), sync_to_thread=False),
    }
    app = Draining(Litestar([slow, HealthController], dependencies=dependencies))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=10)
        config.load()
        server = LeavingServer(config, app)
        running = House(server, listener, go_on)
        await until(lambda: server.started)
        yield running
        go_on.set()
        await running.close()


async def _answer(client: socket.socket, path: str = SLOW) -> str:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    received = b""
    while chunk := await loop.sock_recv(client, 65536):
        received += chunk
    client.close()
    return received.decode()


async def _refuses(house: House) -> bool:
    try:
        house.connect().close()
    except ConnectionRefusedError:
        return True
    return False


async def test_who_waits_at_the_door_when_it_closes_is_served(house: House) -> None:
    house.go_on.set()
    clients = [house.connect() for _ in range(5)]

    # With no turn of the loop in between in which they would have been accepted.
    leaving = asyncio.create_task(house.leave())
    answers = await asyncio.wait_for(asyncio.gather(*map(_answer, clients)), 10)

    assert ["done"] * 5 == [answer.rpartition("\r\n")[2] for answer in answers]
    await leaving


async def test_a_connection_that_has_not_spoken_yet_may_still_and_is_told_that_it_ends(house: House) -> None:
    house.go_on.set()
    client = house.connect()
    await until(lambda: len(house.server.server_state.connections) == 1)

    leaving = asyncio.create_task(house.leave())
    await asyncio.wait({leaving}, timeout=0.05)
    answer = await asyncio.wait_for(_answer(client), 10)

    assert "done" == answer.rpartition("\r\n")[2]
    assert "connection: close" in answer.lower()
    await leaving


async def test_who_comes_later_is_refused_while_work_in_hand_is_finished(house: House) -> None:
    client = house.connect()
    asking = asyncio.create_task(_answer(client))
    await until(lambda: bool(house.server.server_state.tasks))

    leaving = asyncio.create_task(house.leave())
    await until_true(lambda: _refuses(house), within_s=5)

    assert not asking.done()
    house.go_on.set()
    assert "done" == (await asyncio.wait_for(asking, 10)).rpartition("\r\n")[2]
    await leaving


async def test_who_asks_whether_it_is_ready_while_it_leaves_hears_that_it_is_not(house: House) -> None:
    client = house.connect()
    await until(lambda: len(house.server.server_state.connections) == 1)

    leaving = asyncio.create_task(house.leave())
    await asyncio.wait({leaving}, timeout=0.05)
    answer = await asyncio.wait_for(_answer(client, READY), 10)

    assert answer.startswith("HTTP/1.1 503 ")
    assert "was told to stop" in answer
    await leaving


async def test_while_it_gives_notice_it_is_not_ready_and_serves_whoever_comes_all_the_same(
    house: House,
) -> None:
    house.go_on.set()
    house.server._notice_s = 10.0

    leaving = asyncio.create_task(house.leave())
    await asyncio.sleep(0)
    probed, served = await asyncio.wait_for(
        asyncio.gather(_answer(house.connect(), READY), _answer(house.connect())), 5
    )

    assert ["HTTP/1.1 503", "HTTP/1.1 200"] == [answer[:12] for answer in (probed, served)]
    assert not leaving.done()
    # A second signal.
    house.server.force_exit = True
    await leaving
    assert await _refuses(house)
