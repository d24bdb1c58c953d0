"""`towhee-api doctor`: ask everything the server and the workers depend on, and say what to do."""

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping

from bus.errors import BusError
from bus.objects import ObjectStore
from deploy.bus_checks import BusChecks
from deploy.environment import DEFAULT_POOLS, with_nearest_stack
from deploy.errors import CommandFailed, Noteworthy
from deploy.migrations import find_pending_migrations
from deploy.streams import find_credentials

_TIMEOUT_S = 10.0

Check = Callable[[], Awaitable[str]]


def run(arguments: argparse.Namespace) -> int:
    """Run every check, print a line for each.

    Raises:
        CommandFailed: one of them failed.
    """
    environ = with_nearest_stack(arguments)
    failed = asyncio.run(_examine(environ, arguments.pools or DEFAULT_POOLS))
    if failed:
        raise CommandFailed(f"{', '.join(failed)}: not well, the lines above say what to do")
    return os.EX_OK


async def _examine(environ: Mapping[str, str], pools: list[str] | tuple[str, ...]) -> list[str]:
    """Ask what stands alone side by side, then what is on the bus; return what is not well."""

    async def ask_database() -> str:
        pending = await find_pending_migrations(_address(environ, "DATABASE_URL"))
        if pending:
            raise CommandFailed(f"{', '.join(pending)} not applied: run towhee-api migrate")
        return "answers, its schema is up to date"

    async def ask_objects() -> str:
        address = _address(environ, "OBJECT_STORE_URL")
        try:
            await ObjectStore.open(address).check()
        except BusError as error:
            raise CommandFailed(f"{error}: check OBJECT_STORE_URL, and who may write there") from error
        return "can be written and read"

    on_bus = BusChecks(pools, credentials=find_credentials(environ))

    async def ask_bus() -> str:
        return await on_bus.open(_address(environ, "NATS_URL"))

    try:
        failed = await _run_all({"database": ask_database, "object store": ask_objects, "bus": ask_bus})
        further: dict[str, Check] = {
            "streams": on_bus.ask_streams,
            "consumers": on_bus.ask_consumers,
            "pools": on_bus.ask_pools,
            "trainers": on_bus.ask_trainers,
            "dead letters": on_bus.ask_dead_letters,
        }
        if "bus" in failed:
            print(f"-     {', '.join(further)}: not asked, as the bus does not answer")
            return failed
        return failed + await _run_all(further)
    finally:
        await on_bus.close()


def _address(environ: Mapping[str, str], name: str) -> str:
    address = environ.get(name)
    if not address:
        raise CommandFailed(f"{name} is not set: set it, or name a running stack with --data-dir")
    return address


async def _run_all(checks: Mapping[str, Check]) -> list[str]:
    """Run them side by side and return the names of those that failed."""
    answers = await asyncio.gather(*(_run_one(name, check) for name, check in checks.items()))
    return [name for name, is_well in zip(checks, answers, strict=True) if not is_well]


async def _run_one(name: str, check: Check) -> bool:
    began = time.monotonic()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            said = await check()
    except TimeoutError:
        print(f"FAIL  {name}: no answer within {_TIMEOUT_S:g} s: look at its log, or start it again")
        return False
    except Noteworthy as error:
        print(f"note  {name}: {error}")
        return True
    except (CommandFailed, BusError) as error:
        print(f"FAIL  {name}: {error}")
        return False
    print(f"ok    {name}: {said} ({(time.monotonic() - began) * 1000:.0f} ms)")
    return True
