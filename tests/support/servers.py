"""Further servers beside a running stack."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from deploy.local.folder import DataFolder
from tests.support.script import Script
from tests.support.stack import READY_S, RunningStack


@asynccontextmanager
async def second_server(script: Script, stack: RunningStack) -> AsyncIterator[str]:
    """Run another `towhee-api serve` on the stack's database, bus and objects; gives its address."""
    environ = {"PATH": os.environ["PATH"], **DataFolder(stack.data_dir).read_endpoints()}
    async with serving(script, environ) as url:
        yield url


@asynccontextmanager
async def serving(script: Script, environ: Mapping[str, str]) -> AsyncIterator[str]:
    """Run a `towhee-api serve` with the addresses of ``environ``; gives its own once it is ready."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        *script.argv,
        "serve",
        env={**environ, "TOWHEE_API_PORT": str(port)},
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(READY_S), httpx.AsyncClient(base_url=url) as http:
            ready = asyncio.create_task(wait_until_ready(http))
            ended = asyncio.create_task(process.wait())
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            assert process.returncode is None
            ended.cancel()
            await ready
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        assert 0 == await asyncio.wait_for(process.wait(), timeout=30)


async def wait_until_ready(http: httpx.AsyncClient) -> None:
    """Return when the server says that all it depends on is there."""
    while not await _is_ready(http):  # noqa: ASYNC110 - a server tells nobody that it has become ready
        await asyncio.sleep(0.05)


async def _is_ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/health/ready")).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
