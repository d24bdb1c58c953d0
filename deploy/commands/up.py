"""`towhee-api up`: everything on this machine, under one supervisor."""

import argparse
import asyncio
import os
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

from bus.settings import PREFIX, load, variable_of
from deploy.environment import load_with_options
from deploy.errors import WrongUse
from deploy.local.folder import DataFolder
from deploy.local.nats import find_free_port
from deploy.local.parts import StackConfig
from deploy.local.settings import UpSettings
from deploy.local.stack import Stack
from deploy.settings_table import find_unknown
from deploy.sockets import bind
from server.settings import Settings as ServerSettings
from workers.embed.settings import EmbedSettings
from workers.train.service.settings import TrainSettings

_SCRIPT = "towhee-api"
_HOST = "127.0.0.1"
#: Stand in for what `up` starts, while everything else is checked.
_ANY_ADDRESSES = {
    "DATABASE_URL": "postgresql://local",
    "NATS_URL": "nats://local",
    "OBJECT_STORE_URL": "file:///local",
}


def run(arguments: argparse.Namespace) -> int:
    """Start everything, print one line ``ready http://127.0.0.1:N``, run until a signal says stop.

    Raises:
        SettingsError, WrongUse: a setting, an option, the folder or the port can't be used.
        CommandFailed: a part did not come up.
    """
    say = _teller()
    config = _configure(arguments)
    for name in find_unknown(os.environ):
        say(f"{name} is no setting of ours and changes nothing: see {_SCRIPT} --help")
    with config.folder.held():
        # Before anything is started, so that a port in use is said at once.
        bind(_HOST, config.port).close()
        say(f"keeping everything in {config.folder.path}, logs in its folder logs; Ctrl-C stops it")
        asyncio.run(Stack(config, say=say, announce=_print).run())
    return os.EX_OK


def _configure(arguments: argparse.Namespace) -> StackConfig:
    environ = {name: value for name, value in os.environ.items() if value}
    up = load_with_options(
        UpSettings,
        environ,
        {"data_dir": arguments.data_dir, "workers": arguments.workers, "trainers": arguments.trainers},
    )
    port = str(find_free_port()) if arguments.port == "0" else arguments.port
    # Every process reads its own settings again; a wrong one should be heard of before anything has started.
    server = load_with_options(ServerSettings, {**_ANY_ADDRESSES, **environ}, {"port": port})
    worker = load(EmbedSettings, {**_ANY_ADDRESSES, **environ})
    trainer = load(TrainSettings, {**_ANY_ADDRESSES, **environ})
    if server.host not in {_HOST, "localhost"}:
        raise WrongUse(
            f"{PREFIX}HOST must be {_HOST}: `{_SCRIPT} up` listens on loopback only, "
            f"`{_SCRIPT} serve` anywhere"
        )
    # No process of the stack asks a server as a user does.
    environ.pop(variable_of("key"), None)
    environ |= {
        f"{PREFIX}PORT": str(server.port),
        f"{PREFIX}HOST": _HOST,
        # The children run elsewhere.
        variable_of("training_data"): str(trainer.training_data.absolute()),
    }
    return StackConfig(
        folder=DataFolder(up.data_dir),
        port=server.port,
        workers=up.workers,
        trainers=up.trainers,
        pools=[worker.worker_pool],
        drain_s=server.drain_s + server.leave_notice_s,
        command=_find_own_command(),
        environ=environ,
    )


def _find_own_command() -> list[str]:
    """Return how our console script is run, the way we were run if it was that."""
    script = Path(sys.argv[0]).absolute()
    if script.name != _SCRIPT:
        script = Path(sysconfig.get_path("scripts")) / _SCRIPT
    if not script.is_file():
        raise WrongUse(f"{script} is missing: install the project (make up does)")
    return [sys.executable, str(script)]


def _teller() -> Callable[[str], None]:
    began = time.monotonic()
    return lambda line: _print(f"{time.monotonic() - began:6.1f} s  {line}")


def _print(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # Whoever read our output has gone; the stack goes on without a listener.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
