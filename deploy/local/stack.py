"""The whole of Towhee hosted API on one machine, under one supervisor: what `towhee-api up` runs.

Every process is a direct child. What needs nobody starts at once: the workers load their models while
PostgreSQL and NATS come up. Train workers come last, when all that is waited for has the cores it wants.
Stopping goes from the outside in, so that work in hand finds what it needs.
"""

import asyncio
import signal
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path

from bus.settings import variable_of
from deploy.environment import ADDRESSES
from deploy.local.keeper import Keeper, Part, Say
from deploy.local.nats import LocalNats
from deploy.local.parts import StackConfig, command_part, nats_part, postgres_part, prepare_postgres
from deploy.local.readiness import wait_until_ready
from deploy.migrations import migrate_database
from deploy.streams import apply_streams

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Row(IntEnum):
    """Parts of one row stop together, and rows in this order."""

    SERVER = 0
    WORKERS = 1
    BUS = 2
    DATABASE = 3


class Stack:
    """Everything `up` starts. For an address that is set in the environment nothing is started."""

    def __init__(self, config: StackConfig, *, say: Say, announce: Say) -> None:
        """Nothing runs yet.

        Args:
            config: what to run and where.
            say: tells a person what happens.
            announce: gets the one line that says that all is up.
        """
        self._config = config
        self._say = say
        self._announce = announce
        self._environ = dict(config.environ)
        self._stopping = asyncio.Event()
        self._keepers: dict[Row, list[Keeper]] = {row: [] for row in Row}

    async def run(self) -> None:
        """Run until a signal says stop, then stop everything in order.

        Raises:
            WrongUse: a part refuses what it was given.
            CommandFailed: a part does not come up.
        """
        self._catch_signals()
        running = asyncio.create_task(self._start_and_keep())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        running.cancel()
        await asyncio.wait({running})
        await self._stop()
        # Its error, if it has one, is raised only now that nothing runs any more.
        if not running.cancelled() and (error := running.exception()) is not None:
            raise _innermost(error)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            # Under nohup a hang-up stays ignored. An interrupt does not, although shells start what runs in
            # the background of a script that way: whoever sends one means us.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if not self._stopping.is_set():
            self._say("stopping once the work in hand is done; ask again to stop at once")
            self._stopping.set()
            return
        for keeper in self._all_keepers():
            keeper.hurry()

    def _all_keepers(self) -> list[Keeper]:
        return [keeper for row in self._keepers.values() for keeper in row]

    async def _start_and_keep(self) -> None:
        """Start each part as soon as what it needs is there, and keep all of them running."""
        async with asyncio.TaskGroup() as group:
            config, environ = self._config, self._environ
            environ.setdefault("OBJECT_STORE_URL", config.folder.objects.as_uri())
            bus = self._launch_bus(group)
            self._launch_workers(group)
            await self._bring_up_database(group)
            if bus is None:
                await apply_streams(environ, config.pools)
            else:
                await bus.is_up.wait()
            config.folder.write_endpoints({name: environ[name] for name in ADDRESSES})
            self._say(f"starting server on port {config.port}")
            self._launch(group, Row.SERVER, command_part("server", ["serve"], environ, config))
            await wait_until_ready(config.port, self._say)
            self._launch_trainers(group)
            for keeper in self._all_keepers():
                keeper.has_been_up = True
            self._announce(f"ready http://127.0.0.1:{config.port}")

    def _launch(self, group: asyncio.TaskGroup, row: Row, part: Part) -> Keeper:
        keeper = Keeper(part, self._say)
        self._keepers[row].append(keeper)
        group.create_task(keeper.keep(), name=part.name)
        return keeper

    def _launch_bus(self, group: asyncio.TaskGroup) -> Keeper | None:
        if "NATS_URL" in self._environ:
            self._say("using the bus of NATS_URL")
            return None
        self._say("starting nats")
        nats = LocalNats(self._config.folder.nats)
        self._environ["NATS_URL"] = nats.url
        return self._launch(group, Row.BUS, nats_part(self._config.folder, nats, self._config.pools))

    def _launch_workers(self, group: asyncio.TaskGroup) -> None:
        for number in range(1, self._config.workers + 1):
            name = f"worker-{number}"
            self._say(f"starting {name}, which loads its models")
            environ = self._environ_of_worker(name, cache="worker_models_dir")
            self._launch(group, Row.WORKERS, command_part(name, ["work", "embed"], environ, self._config))

    def _launch_trainers(self, group: asyncio.TaskGroup) -> None:
        for number in range(1, self._config.trainers + 1):
            name = f"trainer-{number}"
            self._say(f"starting {name}")
            environ = self._environ_of_worker(name, cache="train_cache_dir")
            self._launch(group, Row.WORKERS, command_part(name, ["work", "train"], environ, self._config))

    def _environ_of_worker(self, name: str, *, cache: str) -> Mapping[str, str]:
        """Return what a worker is started with; ``cache`` is its setting for a folder of its own."""
        # It holds no credential for the database.
        environ = {name: value for name, value in self._environ.items() if name != "DATABASE_URL"}
        folder = environ.get(variable_of(cache))
        path = self._config.folder.cache(name) if folder is None else Path(folder).absolute() / name
        return environ | {variable_of(cache): str(path)}

    async def _bring_up_database(self, group: asyncio.TaskGroup) -> None:
        if "DATABASE_URL" in self._environ:
            self._say("using the database of DATABASE_URL")
        else:
            self._say("starting postgres")
            postgres = await prepare_postgres(self._config.folder)
            part = postgres_part(self._config.folder, postgres)
            await self._launch(group, Row.DATABASE, part).is_up.wait()
            self._environ["DATABASE_URL"] = postgres.url
        for name in await migrate_database(self._environ["DATABASE_URL"]):
            self._say(f"migrated the database to {name}")

    async def _stop(self) -> None:
        for row in Row:
            keepers = self._keepers[row]
            await asyncio.gather(*(keeper.stop() for keeper in keepers))
            if keepers:
                self._say(f"stopped {', '.join(keeper.name for keeper in keepers)}")


def _innermost(error: BaseException) -> BaseException:
    """Take the first error out of the groups that task groups put around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
