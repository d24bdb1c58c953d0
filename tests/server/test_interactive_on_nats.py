"""The interactive lane over a real nats-server, restarts of it included."""

import asyncio
import os
import signal
from pathlib import Path

import numpy as np

from bus.client import NatsBus
from bus.topology import Limits, Topology, apply
from deploy.local.nats import LocalNats
from server.errors import Busy
from tests.support.bus import QUIET
from tests.support.embedding import TEXT_PIPELINE, EmbedWorker, Replica, vector_of

TOPOLOGY = Topology.for_pools(["default"])


async def test_many_requests_at_once_each_get_their_own_rows(nats_bus: NatsBus) -> None:
    worker, replica = EmbedWorker(nats_bus, [TEXT_PIPELINE]), Replica(nats_bus)
    await replica.lane.start()
    await worker.start()

    answers = await asyncio.gather(*(replica.rows(f"a{n}", f"b{n}", "shared") for n in range(100)))

    for number, rows in enumerate(answers):
        expected = np.stack([vector_of(text, 8) for text in (f"a{number}", f"b{number}", "shared")])
        np.testing.assert_array_equal(expected, rows.vectors)
    assert 1 == worker.texts.count("shared")
    await worker.close()
    await replica.lane.close()


async def test_a_request_in_flight_survives_a_killed_bus(tmp_path: Path) -> None:
    server = LocalNats(tmp_path)
    child = await server.start(options=QUIET)
    await apply(server.url, TOPOLOGY)
    server_bus = await NatsBus.connect(server.url, name="server")
    replica = Replica(server_bus)
    await replica.lane.start()
    asking = asyncio.create_task(replica.rows("a", timeout_s=30.0))
    puller = server_bus.puller("embed_interactive_default")
    assert 1 == len(await puller.fetch(limit=1, wait_s=5.0))

    # The stream was in memory: with the server the command is gone for good.
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    child = await server.start(options=QUIET)
    await apply(server.url, TOPOLOGY)
    worker_bus = await NatsBus.connect(server.url, name="worker")
    worker = EmbedWorker(worker_bus, [TEXT_PIPELINE])
    await worker.start()

    rows = await asyncio.wait_for(asking, 20)

    np.testing.assert_array_equal(vector_of("a", 8), rows.vectors[0])
    await worker.close()
    await replica.lane.close()
    await worker_bus.close()
    await server_bus.close()
    await child.stop(5.0)


async def test_a_full_stream_is_busy_at_once_and_takes_again_when_there_is_room(empty_nats_url: str) -> None:
    tiny = Limits(interactive_max_bytes=3_000)
    await apply(empty_nats_url, Topology.for_pools(["default"], limits=tiny))
    bus = await NatsBus.connect(empty_nats_url, name="server")
    replica, worker = Replica(bus), EmbedWorker(bus, [TEXT_PIPELINE])
    await replica.lane.start()
    texts = [letter * 900 for letter in "abcdef"]
    asking = [asyncio.create_task(replica.rows(text, timeout_s=20.0)) for text in texts]

    # Some fit; the others hear of it long before their deadline.
    async with asyncio.timeout(3):
        while sum(task.done() for task in asking) < 4:
            await asyncio.wait([task for task in asking if not task.done()], return_when="FIRST_COMPLETED")
    refused = [task for task in asking if task.done()]
    errors = [task.exception() for task in refused]
    assert [1.0] * 4 == [error.retry_after_s for error in errors if isinstance(error, Busy)]

    await worker.start()
    await asyncio.wait_for(asyncio.gather(*(task for task in asking if task not in refused)), 10)
    assert 1 == len((await replica.rows(texts[-1])).vectors)
    await worker.close()
    await replica.lane.close()
    await bus.close()
