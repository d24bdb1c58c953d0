"""`towhee-api jobs`: see what was given up, publish it again, forget it."""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg

from bus.client import NatsBus
from bus.errors import BusError
from deploy.environment import with_nearest_stack
from deploy.errors import CommandFailed, WrongUse
from deploy.streams import find_credentials
from server.database import Database
from server.dead_jobs import DeadJobRecord, DeadJobs
from server.errors import Busy, ServiceError

_CONNECT_S = 5.0
_PAGE = 100


def run(arguments: argparse.Namespace) -> int:
    """List, retry or drop.

    Raises:
        WrongUse: the id is no number, or no stack is named.
        CommandFailed: nothing has this id, it can't be retried, or the database or the bus is away.
    """
    environ = with_nearest_stack(arguments)
    try:
        asyncio.run(_run(arguments, environ))
    except Busy as error:
        raise CommandFailed(
            f"the database does not answer ({error.__cause__}): check DATABASE_URL"
        ) from error
    except ServiceError as error:
        raise CommandFailed(error.message) from error
    except BusError as error:
        raise CommandFailed(
            f"the bus did not do it ({error}): check NATS_URL, see towhee-api doctor"
        ) from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise CommandFailed(f"the database does not answer ({error}): check DATABASE_URL") from error
    return os.EX_OK


async def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    async with _opened(environ) as dead_jobs:
        if arguments.verb == "dead":
            await _show(dead_jobs)
        elif arguments.verb == "retry":
            print(await dead_jobs.retry(_number(arguments.id)))
        else:
            print(await dead_jobs.drop(_number(arguments.id)))


@asynccontextmanager
async def _opened(environ: Mapping[str, str]) -> AsyncIterator[DeadJobs]:
    for name in ("DATABASE_URL", "NATS_URL"):
        if not environ.get(name):
            raise WrongUse(f"{name} is not set: set it, or name a running stack with --data-dir")
    db = await Database.open(environ["DATABASE_URL"], min_size=1, max_size=1)
    try:
        bus = await NatsBus.connect(
            environ["NATS_URL"],
            name="jobs command",
            credentials=find_credentials(environ),
            patience_s=_CONNECT_S,
        )
        try:
            yield DeadJobs(db, bus)
        finally:
            await bus.close()
    finally:
        await db.close()


async def _show(dead_jobs: DeadJobs) -> None:
    after = num_shown = 0
    while page := await dead_jobs.read(after=after, limit=_PAGE):
        for record in page:
            print(_line(record))
        after, num_shown = page[-1].id, num_shown + len(page)
    if num_shown == 0:
        print("no dead jobs")


def _line(record: DeadJobRecord) -> str:
    what = record.subject if record.job_id is None else f"job {record.job_id}"
    state = "" if record.job_id is None else f" {record.state or 'DELETED'}"
    tries = f"attempt {record.attempt}, delivery {record.num_delivered}"
    return (
        f"{record.id}  {record.at:%Y-%m-%d %H:%M:%S}  {what}{state}  {record.code}  {tries}: {record.reason}"
    )


def _number(text: str) -> int:
    if not text.isdecimal():
        raise WrongUse(f"{text} is no id: towhee-api jobs dead lists them")
    return int(text)
