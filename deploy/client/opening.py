"""From what was typed and set to a server that can be asked, where all that takes is installed."""

import argparse
import os
import signal
from importlib.util import find_spec
from typing import TYPE_CHECKING

from deploy.client.settings import ClientSettings
from deploy.environment import load_with_options
from deploy.errors import CommandFailed

if TYPE_CHECKING:
    from deploy.client.api import Api

_PACKAGES = ("httpx", "tqdm")


def require_client(command: str) -> None:
    """Return if a command that speaks to servers can run.

    Raises:
        CommandFailed: something of the extra `cli` is not installed.
    """
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise CommandFailed(
            f"towhee-api {command} needs {' and '.join(missing)}: pip install 'towhee-hosted-api[cli]'"
        )


def client_of(arguments: argparse.Namespace) -> "Api":
    """Open the server that was typed or set; an interrupt ends the command from here on.

    Raises:
        SettingsError, WrongUse: its address or its key can't be used.
    """
    from deploy.client.api import Api  # noqa: PLC0415 - it may not be installed

    # Shells let what runs in the background of a script ignore interrupts; whoever sends one means us.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    options = {"server": arguments.server, "key": arguments.key, "key_file": arguments.key_file}
    return Api.open(load_with_options(ClientSettings, os.environ, options))
