"""`towhee-api embed`: vectors of files from any server."""

import argparse

from deploy.client.opening import client_of, require_client


def run(arguments: argparse.Namespace) -> int:
    """Embed files; give the exit code.

    Raises:
        SettingsError, WrongUse: what was typed or set can't be.
        CommandFailed: the server can't be reached or refuses, or a file has no vector.
    """
    require_client("embed")
    from deploy.client.embed import embed  # noqa: PLC0415 - it may not be installed

    with client_of(arguments) as api:
        return embed(api, arguments)
