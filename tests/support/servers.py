"""Further servers beside a running stack."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from deploy.local.folder import DataFolder
from tests.support.script import Script
from tests.support.stack import READY_S, RunningStack


@asynccontextmanager
async def second_server(script: Script, stack: RunningStack) -> AsyncIterator[str]:
    """Run another `towhee-api serve` on the stack's database, bus and objects; gives its address."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    environ = {
        "PATH": os.environ["PATH"],
        **DataFolder(stack.data_dir).read_endpoints(),
        "TOWHEE_API_PORT": str(port),
    }
    process = await asyncio.create_subprocess_exec(
        *script.argv, "serve", env=environ, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(READY_S), httpx.AsyncClient(base_url=url) as http:
            while not await _is_ready(http):
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        assert 0 == await asyncio.wait_for(process.wait(), timeout=30)


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
