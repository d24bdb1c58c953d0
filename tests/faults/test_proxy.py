"""The harness's proxy passes bytes on, cuts, and stalls."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.faults.harness.proxy import Proxy, to_port


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy before a server that says back what it hears."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy(to_port(server.sockets[0].getsockname()[1]))
    await proxy.start()
    yield proxy
    await proxy.close()
    server.close()


async def test_it_passes_on_both_ways(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)

    writer.write(b"hello")

    assert b"hello" == await asyncio.wait_for(reader.readexactly(5), 5)
    writer.close()


async def test_a_stalled_connection_goes_on_later_with_nothing_lost(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    proxy.become("stalled")

    writer.write(b"hello")
    waiting = asyncio.create_task(reader.readexactly(5))
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done

    proxy.become("open")
    assert b"hello" == await asyncio.wait_for(waiting, 5)
    writer.close()


async def test_a_cut_breaks_what_is_open_and_what_comes(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"hello")
    await asyncio.wait_for(reader.readexactly(5), 5)

    proxy.become("cut")

    for reading in (reader, (await asyncio.open_connection("127.0.0.1", proxy.port))[0]):
        try:
            assert b"" == await asyncio.wait_for(reading.read(1), 5)
        except ConnectionResetError:
            continue
    writer.close()
