"""The processes of a stack on one machine, each as something a keeper can start and stop."""

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from deploy.errors import CommandFailed, WrongUse
from deploy.local import logs
from deploy.local.child import Child, ChildOptions, start_child
from deploy.local.folder import DataFolder
from deploy.local.keeper import Part
from deploy.local.nats import LocalNats, NatsFailed
from deploy.local.postgres import STOP_SIGNAL, DataFolderInUse, LocalPostgres, PostgresError, prepare
from deploy.local.privileges import CannotReach
from deploy.streams import apply_streams

_POLL_S = 0.02
#: PostgreSQL writes out what it has in memory, nats-server its files.
_SERVICE_GRACE_S = 20.0
#: What a process needs to leave once its work in hand is done or given up.
_LEAVE_S = 5.0
_POSTGRES_START_S = 60.0


class StackConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and where."""

    folder: DataFolder
    port: int
    workers: int
    trainers: int
    #: The pools that get streams.
    pools: Sequence[str]
    #: How long work in hand may take when stopping.
    drain_s: float
    #: How our own console script is started, to which a command is added.
    command: Sequence[str]
    #: Environment of the children, without the addresses of what is started here.
    environ: Mapping[str, str]


async def prepare_postgres(folder: DataFolder) -> LocalPostgres:
    """Make sure that there is a cluster; the first time that takes a second or two.

    Raises:
        WrongUse: the folder is in use, or closed to the user PostgreSQL runs as.
        CommandFailed: it could not be made.
    """
    try:
        return await asyncio.to_thread(prepare, folder.postgres)
    except DataFolderInUse as error:
        raise WrongUse(f"{error}: stop it, or choose another folder with --data-dir") from error
    except CannotReach as error:
        raise WrongUse(f"{error}: choose another folder with --data-dir") from error
    except PostgresError as error:
        raise CommandFailed(str(error)) from error


def postgres_part(folder: DataFolder, postgres: LocalPostgres) -> Part:
    """PostgreSQL; it has started when it accepts connections."""
    log = folder.log("postgres")

    async def start() -> Child:
        # Killed with us it would have to recover its log at the next start; asked by us it leaves at once.
        child = await _spawn(postgres.command, postgres.environment, log, death_signal=STOP_SIGNAL)
        try:
            await _wait_until_accepting(postgres, child)
        except BaseException:
            await child.stop(_SERVICE_GRACE_S, stop_signal=STOP_SIGNAL)
            raise
        return child

    return Part(
        name="postgres",
        start=start,
        log=log,
        stop_signal=STOP_SIGNAL,
        # Immediate shutdown: every backend leaves, the next start recovers.
        hurry_signal=signal.SIGQUIT,
        grace_s=_SERVICE_GRACE_S,
    )


async def _wait_until_accepting(postgres: LocalPostgres, child: Child) -> None:
    deadline = time.monotonic() + _POSTGRES_START_S
    while not postgres.is_ready(child.pid):
        if child.returncode is not None:
            raise CommandFailed(f"ended with code {child.returncode} while it started")
        if time.monotonic() > deadline:
            raise CommandFailed(f"did not accept connections within {_POSTGRES_START_S:g} s")
        await asyncio.sleep(_POLL_S)


def nats_part(folder: DataFolder, nats: LocalNats, pools: Sequence[str]) -> Part:
    """nats-server; it has started when it accepts connections and has our streams."""
    log = folder.log("nats")

    async def start() -> Child:
        with logs.opened(log) as output:
            try:
                child = await nats.start(options=ChildOptions(output=output))
            except NatsFailed as error:
                raise CommandFailed(str(error)) from error
        try:
            # Each time: streams in memory end with the server.
            await apply_streams({"NATS_URL": nats.url}, pools)
        except BaseException:
            await child.stop(_SERVICE_GRACE_S)
            raise
        return child

    return Part(name="nats", start=start, log=log, grace_s=_SERVICE_GRACE_S)


def command_part(name: str, command: Sequence[str], environ: Mapping[str, str], config: StackConfig) -> Part:
    """One of our own commands; it has started when it has been executed."""
    log = config.folder.log(name)

    async def start() -> Child:
        return await _spawn([*config.command, *command], environ, log)

    return Part(name=name, start=start, log=log, grace_s=config.drain_s + _LEAVE_S)


async def _spawn(
    argv: Sequence[str],
    environ: Mapping[str, str],
    log: Path,
    *,
    death_signal: signal.Signals = signal.SIGKILL,
) -> Child:
    with logs.opened(log) as output:
        return await start_child(
            argv,
            env=environ,
            # Commands are given absolute paths; a folder that goes away must not hold them.
            cwd=Path("/"),
            options=ChildOptions(death_signal=death_signal, output=output),
        )
