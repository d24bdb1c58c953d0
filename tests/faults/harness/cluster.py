"""Three nats-servers on loopback that keep three copies of every stream."""

import asyncio
import os
import secrets
from pathlib import Path

from deploy.errors import CommandFailed
from deploy.local import logs
from deploy.local.child import Child, ChildOptions, start_child
from deploy.local.keeper import Part
from deploy.local.nats import find_server
from tests.faults.harness.ports import find_lasting_port

NUM_NODES = 3
_START_S = 20.0
_POLL_S = 0.02

_CONFIG = """\
server_name: "{name}"
listen: "127.0.0.1:{port}"
authorization {{ user: towhee, password: "{password}" }}
jetstream {{ store_dir: "{store}", max_memory_store: 1GB, max_file_store: 64GB }}
cluster {{
  name: faults
  listen: "127.0.0.1:{route_port}"
  # Clients use the addresses they were given and no others.
  no_advertise: true
  routes: [{routes}]
}}
"""


class NatsCluster:
    """The nodes and their folders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._password = secrets.token_urlsafe(32)
        self._ports = [find_lasting_port() for _ in range(NUM_NODES)]
        self._routes = [find_lasting_port() for _ in range(NUM_NODES)]

    @property
    def url(self) -> str:
        """All nodes, for a client."""
        return ",".join(f"nats://towhee:{self._password}@127.0.0.1:{port}" for port in self._ports)

    def part(self, number: int, log: Path) -> Part:
        """One node; it has started when it accepts connections."""

        async def start() -> Child:
            folder = self._folder / f"node-{number}"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            config = folder / "nats-server.conf"
            config.touch(mode=0o600)
            config.write_text(self._configure(number, folder))
            with logs.opened(log) as output:
                child = await start_child(
                    [str(find_server()), "--config", str(config)],
                    env=dict(os.environ),
                    cwd=folder,
                    options=ChildOptions(output=output),
                )
            await self._wait_until_accepting(self._ports[number], child)
            return child

        return Part(name=f"node-{number}", start=start, log=log)

    def _configure(self, number: int, folder: Path) -> str:
        others = (port for index, port in enumerate(self._routes) if index != number)
        return _CONFIG.format(
            name=f"node-{number}",
            port=self._ports[number],
            password=self._password,
            store=folder,
            route_port=self._routes[number],
            routes=", ".join(f'"nats://127.0.0.1:{port}"' for port in others),
        )

    @staticmethod
    async def _wait_until_accepting(port: int, child: Child) -> None:
        deadline = asyncio.get_running_loop().time() + _START_S
        while asyncio.get_running_loop().time() < deadline:
            if child.returncode is not None:
                break
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(_POLL_S)
            else:
                writer.close()
                return
        await child.stop(0.0)
        raise CommandFailed("a node of the cluster does not start")
