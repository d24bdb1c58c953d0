"""`towhee-api doctor`: ask everything the server and the workers depend on, and say what to do."""

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from bus.client import NatsBus
from bus.errors import BusError
from bus.objects import ObjectStore
from deploy.environment import DEFAULT_POOLS, with_nearest_stack
from deploy.errors import CommandFailed
from deploy.migrations import find_pending_migrations
from deploy.streams import apply_streams, find_credentials

_TIMEOUT_S = 5.0

Check = Callable[[], Awaitable[str]]


def run(arguments: argparse.Namespace) -> int:
    """Run every check, print a line for each.

    Raises:
        CommandFailed: one of them failed.
    """
    environ = with_nearest_stack(arguments)
    failed = asyncio.run(_run_all(_Doctor(environ, arguments.pools or DEFAULT_POOLS).checks()))
    if failed:
        raise CommandFailed(f"{', '.join(failed)}: not well, the lines above say what to do")
    return os.EX_OK


class _Doctor:
    """One question for each thing that has an address. An answer is what is well about it."""

    def __init__(self, environ: Mapping[str, str], pools: Sequence[str]) -> None:
        self._environ = environ
        self._pools = pools

    def checks(self) -> dict[str, Check]:
        """Every question, by what it is about."""
        return {
            "database": self._ask_database,
            "bus": self._ask_bus,
            "streams": self._ask_streams,
            "object store": self._ask_objects,
        }

    def _address(self, name: str) -> str:
        address = self._environ.get(name)
        if not address:
            raise CommandFailed(f"{name} is not set: set it, or name a running stack with --data-dir")
        return address

    async def _ask_database(self) -> str:
        pending = await find_pending_migrations(self._address("DATABASE_URL"))
        if pending:
            raise CommandFailed(f"{', '.join(pending)} not applied: run towhee-api migrate")
        return "answers, its schema is up to date"

    async def _ask_bus(self) -> str:
        url = self._address("NATS_URL")
        bus = await NatsBus.connect(url, name="doctor", credentials=find_credentials(self._environ))
        try:
            if not await bus.is_connected():
                raise CommandFailed("connected, but does not answer: restart the NATS server")
        finally:
            await bus.close()
        return "answers"

    async def _ask_streams(self) -> str:
        self._address("NATS_URL")
        changes = await apply_streams(self._environ, self._pools, dry_run=True)
        if changes:
            raise CommandFailed(f"{'; '.join(changes)}: run towhee-api bus apply")
        return f"as declared, for the pools {', '.join(self._pools)}"

    async def _ask_objects(self) -> str:
        await ObjectStore.open(self._address("OBJECT_STORE_URL")).check()
        return "can be written and read"


async def _run_all(checks: dict[str, Check]) -> list[str]:
    """Run them side by side and return the names of those that failed."""
    answers = await asyncio.gather(*(_run_one(name, check) for name, check in checks.items()))
    return [name for name, is_well in zip(checks, answers, strict=True) if not is_well]


async def _run_one(name: str, check: Check) -> bool:
    began = time.monotonic()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            said = await check()
    except TimeoutError:
        print(f"FAIL  {name}: no answer within {_TIMEOUT_S:g} s")
        return False
    except (CommandFailed, BusError) as error:
        print(f"FAIL  {name}: {error}")
        return False
    print(f"ok    {name}: {said} ({(time.monotonic() - began) * 1000:.0f} ms)")
    return True
