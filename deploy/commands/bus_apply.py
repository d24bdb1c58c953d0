"""`towhee-api bus apply`: streams and consumers as this release declares them."""

import argparse
import asyncio
import os

from bus.settings import SettingsError
from deploy.environment import DEFAULT_POOLS, with_nearest_stack
from deploy.streams import apply_streams


def run(arguments: argparse.Namespace) -> int:
    """Create or change what differs.

    Raises:
        SettingsError: NATS_URL is not set.
        CommandFailed: the bus can't be reached, or refused.
    """
    environ = with_nearest_stack(arguments)
    if not environ.get("NATS_URL"):
        raise SettingsError("NATS_URL", "is not set: set it, or name a running stack with --data-dir")
    pools = arguments.pools or DEFAULT_POOLS
    changes = asyncio.run(apply_streams(environ, pools, dry_run=arguments.dry_run))
    for change in changes:
        print(change)
    if not changes:
        print("nothing to do")
    return os.EX_OK
