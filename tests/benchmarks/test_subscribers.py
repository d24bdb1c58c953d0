"""How long an event takes from its row to the last of many subscribers of one server."""

import asyncio
import gc
import statistics
import sys
import time

import orjson
import pytest

from server.graphql.config import GraphQLConfig
from tests.benchmarks.measuring import surroundings
from tests.server.graphql.test_training import FOLLOW
from tests.support.graphql import GraphQLClient
from tests.support.trained import TrainWorker, make_dataset, plain, start_training
from tests.support.training_jobs import Reports

pytestmark = pytest.mark.bench

SUBSCRIBERS = 200
EVENTS = 50
#: What a training reports at most.
EVERY_S = 0.5
#: p99 wanted.
WITHIN_S = 0.25


@pytest.fixture
def graphql_config() -> GraphQLConfig:
    """As the server has it."""
    return GraphQLConfig()


async def test_an_event_reaches_all_subscribers_of_a_server(ada: GraphQLClient, trainer: TrainWorker) -> None:
    job_id = await start_training(ada, await make_dataset(ada, trainer))
    watchers = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.watchers",
        ada.url.replace("http", "ws") + "/graphql",
        ada.token or "",
        str(SUBSCRIBERS),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    assert watchers.stdin is not None
    assert watchers.stdout is not None
    watchers.stdin.write(orjson.dumps({"query": FOLLOW, "variables": {"id": job_id}}) + b"\n")
    async with asyncio.timeout(120):
        assert b"ready\n" == await watchers.stdout.readline()
        # As a server does once it has started.
        gc.freeze()
        reports = Reports.of(await trainer.lane.claim(plain(job_id)))
        cpu_s = time.process_time()
        for number in range(1, EVENTS + 1):
            await trainer.lane.publish(
                reports.progress(number, loss=0.5, accuracy=0.5, test_loss=0.5, test_accuracy=0.5)
            )
            await asyncio.sleep(EVERY_S)
        cpu_s = time.process_time() - cpu_s
        await trainer.lane.publish(reports.failed(EVENTS + 1))
        ages = orjson.loads(await watchers.stdout.readline())
    await watchers.wait()

    # Without the first two, which are not progress, and the last.
    delays = sorted(age for event in ages[2:-1] for age in event)
    assert SUBSCRIBERS * EVENTS == len(delays)
    p50, p99 = statistics.median(delays), delays[int(len(delays) * 0.99)]
    print(
        f"\n{SUBSCRIBERS} subscribers: from the row to the client {p50 * 1000:.0f} ms (median), "
        f"{p99 * 1000:.0f} ms (p99), {delays[-1] * 1000:.0f} ms at most; "
        f"{cpu_s / EVENTS * 1000:.0f} ms CPU an event; {surroundings()}"
    )
    assert p99 <= WITHIN_S
