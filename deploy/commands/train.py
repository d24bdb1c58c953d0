"""`towhee-api train`: train a model on any server, and watch."""

import argparse

from deploy.client.opening import client_of, require_client
from deploy.errors import WrongUse


def run(arguments: argparse.Namespace) -> int:
    """Upload, train, watch, deploy; give the exit code.

    Raises:
        SettingsError, WrongUse: what was typed or set can't be.
        CommandFailed: the server can't be reached or refuses, or there is no model.
    """
    _check(arguments)
    require_client("train")
    from deploy.client.train import train  # noqa: PLC0415 - it may not be installed

    with client_of(arguments) as api:
        return train(api, arguments)


def _check(arguments: argparse.Namespace) -> None:
    ways = {
        "FILE": arguments.file,
        "--sample": arguments.sample,
        "--follow": arguments.follow,
        "--cancel": arguments.cancel,
    }
    given = [way for way, value in ways.items() if value is not None]
    if len(given) != 1:
        raise WrongUse(f"give one of {', '.join(ways)} (see towhee-api train --help)")
    if given[0] in {"FILE", "--sample"} and arguments.trainer is None:
        raise WrongUse("--trainer says which trainer (see towhee-api train --help)")
