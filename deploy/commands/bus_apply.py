"""`towhee-api bus apply`: streams and consumers as this release declares them."""

import argparse
import asyncio
import os

from bus.errors import BusError
from bus.settings import SettingsError
from bus.topology import Topology, apply
from deploy.environment import DEFAULT_POOLS, with_nearest_stack
from deploy.errors import CommandFailed


def run(arguments: argparse.Namespace) -> int:
    """Create or change what differs.

    Raises:
        SettingsError: NATS_URL is not set.
        CommandFailed: the bus can't be reached, or refused.
    """
    url = with_nearest_stack(arguments).get("NATS_URL")
    if not url:
        raise SettingsError("NATS_URL", "is not set: set it, or name a running stack with --data-dir")
    try:
        changes = asyncio.run(
            apply(url, Topology.for_pools(arguments.pools or DEFAULT_POOLS), dry_run=arguments.dry_run)
        )
    except BusError as error:
        raise CommandFailed(f"the bus was not changed ({error}): check NATS_URL") from error
    for change in changes:
        print(change)
    if not changes:
        print("nothing to do")
    return os.EX_OK
