"""A server that stops waits for requests and ends event streams."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from litestar import Litestar, get
from litestar.response import ServerSentEvent

from server.draining import Draining
from tests.support.processes import until


class Running:
    """A uvicorn server in this event loop."""

    def __init__(self, app: Draining, listener: socket.socket) -> None:
        self._app = app
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        self.task = asyncio.create_task(self._server._serve([listener]))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def has_started(self) -> bool:
        return self._server.started

    def stop(self) -> None:
        self._app.begin()
        self._server.should_exit = True


@pytest.fixture
def go_on() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def running(go_on: asyncio.Event) -> AsyncIterator[Running]:
    async def endless() -> AsyncIterator[str]:
        yield "first"
        await go_on.wait()
        yield "second"

    @get("/events")
    async def events() -> ServerSentEvent:
        return ServerSentEvent(endless())

    @get("/slow")
    async def slow() -> str:
        await go_on.wait()
        return "done"

    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = Running(Draining(Litestar([events, slow])), listener)
        await until(running.has_started)
        yield running
        running.stop()
        go_on.set()
        await asyncio.wait_for(running.task, 10)


async def test_an_event_stream_ends_cleanly_when_the_server_stops(running: Running) -> None:
    async with httpx.AsyncClient() as client, client.stream("GET", f"{running.url}/events") as response:
        lines = response.aiter_lines()
        assert "data: first" == await anext(lines)

        running.stop()
        rest = await asyncio.wait_for(anext_all(lines), 10)

    assert "data: second" not in rest
    await asyncio.wait_for(running.task, 10)


async def test_a_request_in_hand_is_still_answered(running: Running, go_on: asyncio.Event) -> None:
    async with httpx.AsyncClient() as client:
        asking = asyncio.create_task(client.get(f"{running.url}/slow"))
        await until(lambda: bool(running._server.server_state.tasks))
        running.stop()
        await until(lambda: not running._server.servers[0].is_serving())

        go_on.set()
        answer = await asyncio.wait_for(asking, 10)

    assert (200, "done") == (answer.status_code, answer.text)


async def test_a_stream_goes_on_while_the_server_does(running: Running, go_on: asyncio.Event) -> None:
    async with httpx.AsyncClient() as client, client.stream("GET", f"{running.url}/events") as response:
        lines = response.aiter_lines()
        assert "data: first" == await anext(lines)
        go_on.set()

        assert "data: second" in await asyncio.wait_for(anext_all(lines), 10)


async def anext_all(lines: AsyncIterator[str]) -> list[str]:
    """Read to the end."""
    return [line async for line in lines]
