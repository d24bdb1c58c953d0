"""Put the streams of this release on a bus, or say in one line why not."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bus.errors import BusError
from bus.settings import variable_of
from bus.topology import Topology, apply
from deploy.errors import CommandFailed


def find_credentials(environ: Mapping[str, str]) -> Path | None:
    """Return the file with the credential for NATS, if one is named."""
    named = environ.get(variable_of("nats_credentials"))
    return Path(named) if named else None


async def apply_streams(
    environ: Mapping[str, str], pools: Sequence[str], *, dry_run: bool = False
) -> list[str]:
    """Create or change what differs, and return a line for each change.

    Args:
        environ: names the bus in ``NATS_URL``.
        pools: the pools of workers that get streams.
        dry_run: only say what would change.

    Raises:
        CommandFailed: the bus can't be reached, or refused.
    """
    try:
        return await apply(
            environ["NATS_URL"],
            Topology.for_pools(pools),
            dry_run=dry_run,
            credentials=find_credentials(environ),
        )
    except BusError as error:
        raise CommandFailed(f"the bus can't be given its streams ({error}): check NATS_URL") from error
