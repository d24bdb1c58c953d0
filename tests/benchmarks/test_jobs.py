"""What the bus and the durable half of a job cost: time to a worker, CPU for each job."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from bus import subjects
from bus.client import NatsBus
from bus.messages import EmbedJob
from bus.objects import ObjectStore
from bus.port import Puller
from bus.topology import embed_bulk
from server.auth.principal import Principal
from server.database import Database
from server.job_rows import add_to_outbox
from tests.benchmarks.measuring import surroundings
from tests.support.jobs import Replica
from tests.support.tiny import (
    Addresses,
    sign_in,
    tiny_announcements,
    tiny_server,
    tiny_worker,
    wait_until_hosted,
)

pytestmark = pytest.mark.bench

JOBS = 1000
#: Measured in pairs, one after the other.
ROUND_TRIPS = 300


@pytest.fixture
def addresses(database_url: str, nats_url: str, nats_bus: NatsBus, tmp_path: Path) -> Addresses:
    return Addresses(database_url=database_url, nats_url=nats_url, object_store_url=tmp_path.as_uri())


@pytest.fixture
async def replica(database: Database, nats_bus: NatsBus, objects: ObjectStore) -> AsyncIterator[Replica]:
    """The durable half of a server whose relay is only ever woken."""
    replica = Replica(database, nats_bus, objects, poll_s=3600)
    await replica.start()
    await replica.outbox.start()
    yield replica
    await replica.close()


async def _create(client: httpx.AsyncClient, count: int) -> None:
    for number in range(count):
        (await client.post("/v1/jobs", json={"texts": [f"text {number}"]})).raise_for_status()


async def _num_open(database: Database) -> int:
    row = await database.fetch_one("SELECT count(*) AS n FROM jobs WHERE state != 'SUCCEEDED'")
    assert row is not None
    number: int = row["n"]
    return number


async def _until_done(database: Database) -> None:
    while await _num_open(database):  # noqa: ASYNC110 - a poll costs less than following every job
        await asyncio.sleep(0.1)


async def test_small_jobs_by_cpu_second(addresses: Addresses, database: Database) -> None:
    async with tiny_server(addresses, max_open_jobs=10 * JOBS) as client:
        async with tiny_announcements(addresses):
            await sign_in(client)
            await wait_until_hosted(client)
            await _create(client, JOBS)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        async with tiny_worker(addresses):
            await _until_done(database)
            cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s

    print(f"\n{JOBS} jobs of one text, worker and server in one process; {surroundings()}")
    print(f"  {JOBS / cpu_s:6.0f} jobs by CPU-second   {JOBS / wall_s:6.0f} jobs by second")


async def test_from_commit_to_handler(
    nats_bus: NatsBus, nats_url: str, replica: Replica, owner: Principal
) -> None:
    """Each round: a durable publish to a puller that waits, then a commit into the outbox to the same."""
    puller = nats_bus.puller(embed_bulk("default"))
    sender = await NatsBus.connect(nats_url, name="bench")
    job = await replica.create(owner, 1)
    await _fetch(puller)
    bare, outbox = [], []
    for number in range(2, ROUND_TRIPS + 2):
        command = EmbedJob(job_id=str(job.id), publish_number=number)
        subject = subjects.embed_job("default", str(job.id))

        waiting = asyncio.create_task(_fetch(puller))
        await asyncio.sleep(0.005)
        began = time.perf_counter()
        await sender.publish(subject, command, message_id=f"bare:{number}")
        bare.append(await waiting - began)

        waiting = asyncio.create_task(_fetch(puller))
        await asyncio.sleep(0.005)
        async with replica.db.transaction():
            await add_to_outbox(replica.db, subject, command)
        began = time.perf_counter()
        replica.outbox.wake()
        outbox.append(await waiting - began)
    await sender.close()

    ours, theirs = (statistics.median(figures) * 1000 for figures in (outbox, bare))
    print(f"\ncommit to handler, medians of {ROUND_TRIPS}; {surroundings()}")
    print(f"  bare durable publish to handler  {theirs:5.2f} ms")
    print(f"  outbox commit to handler         {ours:5.2f} ms   (+{ours - theirs:.2f} ms)")


async def _fetch(puller: Puller) -> float:
    """Take one delivery; return when it was there."""
    [delivery] = await puller.fetch(limit=1, wait_s=10)
    now = time.perf_counter()
    await delivery.ack()
    return now
