"""A headless Chromium, driven by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import asyncio
import itertools
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import websockets

from tests.support.processes import until

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
_START_S = 60.0
_WAIT_S = 30.0


class Page:
    """One tab.

    Attributes:
        requests: every URL it has asked for, sockets too.
        complaints: what it has said on its console as a warning or an error, and what it threw.
    """

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._connection = connection
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        """Take what the browser says until it is closed."""
        with suppress(websockets.ConnectionClosed):
            async for raw in self._connection:
                message = json.loads(raw)
                if "id" in message:
                    self._answers.pop(message["id"]).set_result(message)
                else:
                    self._note(message["method"], message["params"])

    def _note(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Network.webSocketCreated":
                self.requests.append(params["url"])
            case "Log.entryAdded" if params["entry"]["level"] in ("warning", "error"):
                self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            case "Runtime.consoleAPICalled" if params["type"] in ("warning", "error", "assert"):
                self.complaints.append(json.dumps(params["args"]))
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        """Ask the browser for something."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(_WAIT_S):
            message = await answer
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    async def open(self, url: str) -> None:
        """Go to a page."""
        for domain in ("Network", "Runtime", "Log", "Page"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)

    async def run(self, script: str) -> Any:  # noqa: ANN401, a JSON value
        """Return the value of an expression, awaited if it is a promise."""
        result = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def see(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _WAIT_S
        while not await self.run(f"Boolean({condition})"):
            assert loop.time() < deadline, (
                condition,
                self.complaints,
                await self.run("document.body.innerText"),
            )
            await asyncio.sleep(0.05)

    async def type(self, text: str) -> None:
        """Type into what has the focus."""
        await self.call("Input.insertText", text=text)

    def foreign_requests(self, url: str) -> list[str]:
        """Return what was asked of any other host than the page's own."""
        own = urlsplit(url).netloc
        return [
            asked
            for asked in self.requests
            if urlsplit(asked).scheme != "data" and urlsplit(asked).netloc != own
        ]


@asynccontextmanager
async def browser_page(profile: Path) -> AsyncIterator[Page]:
    """Start a browser with an empty profile and yield its one tab."""
    process = await asyncio.create_subprocess_exec(
        _find_chromium(),
        *_FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        address = await _tab(process, profile / "DevToolsActivePort")
        async with websockets.connect(address, max_size=None, proxy=None) as connection:
            page = Page(connection)
            listening = asyncio.create_task(page.listen())
            yield page
            listening.cancel()
    finally:
        if process.returncode is None:
            # Its helpers are in the group that it leads.
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _tab(process: asyncio.subprocess.Process, port_file: Path) -> str:
    def port() -> str | None:
        assert process.returncode is None, "the browser did not start"
        text = port_file.read_text() if port_file.exists() else ""
        return text.split("\n", 1)[0] if "\n" in text else None

    await until(lambda: port() is not None, within_s=_START_S)
    async with asyncio.timeout(_START_S), httpx.AsyncClient() as http:
        while True:
            targets = (await http.get(f"http://127.0.0.1:{port()}/json/list")).json()
            pages = [target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"]
            if pages:
                return str(pages[0])
            await asyncio.sleep(0.05)


def _find_chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.fail("Install a browser first: apt-get install chromium")
