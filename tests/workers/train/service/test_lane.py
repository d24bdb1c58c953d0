"""What becomes of a token when there is nothing to do, and of an attempt when stores are away."""

import asyncio
from pathlib import Path

from bus import subjects
from bus.memory import MemoryBus
from bus.messages import EmbedJob, TrainModel
from bus.objects import ObjectStore
from bus.topology import WORK, train_lane
from tests.support.lanes import LaneServer
from workers.cancel_orders import CancelOrders
from workers.train.service.cache import FileCache
from workers.train.service.children import Nursery
from workers.train.service.folders import Folders
from workers.train.service.frames import Plan
from workers.train.service.lane import LaneHandler
from workers.train.service.tools import Tools
from workers.train.service.watching import WatchSettings


def handler(bus: MemoryBus, objects: ObjectStore, tmp_path: Path, draining: asyncio.Event) -> LaneHandler:
    """A lane that never gets as far as a child."""
    folders = Folders(tmp_path)
    tools = Tools(
        bus=bus,
        objects=objects,
        cache=FileCache(objects, folders.files, max_bytes=1),
        nursery=Nursery(folders, Plan(parent_pid=1)),
        pool="default",
        worker_id="worker-1",
        watch=WatchSettings(silent_s=1.0),
        prewarms=False,
    )
    return LaneHandler(tools, "train", draining, CancelOrders(bus))


async def take_token(bus: MemoryBus, lane: LaneHandler) -> None:
    await bus.publish(subjects.train_job("default", "job-1"), TrainModel(job_id="job-1", publish_number=1))
    (delivery,) = await bus.puller(train_lane("default")).fetch(limit=1, wait_s=1.0)
    await lane.handle(delivery)


async def test_a_token_without_work_is_gone(
    bus: MemoryBus, objects: ObjectStore, server: LaneServer, tmp_path: Path
) -> None:
    server.refuse = "nothing"

    await take_token(bus, handler(bus, objects, tmp_path, asyncio.Event()))

    assert 0 == bus.count(WORK)
    assert ["job-1"] == [claim.job_id for claim in server.claims]


async def test_a_token_whose_work_is_others_comes_back_after_a_while(
    bus: MemoryBus, objects: ObjectStore, server: LaneServer, tmp_path: Path
) -> None:
    server.refuse = "later"

    await take_token(bus, handler(bus, objects, tmp_path, asyncio.Event()))

    puller = bus.puller(train_lane("default"))
    assert [] == await puller.fetch(limit=1, wait_s=0.0)
    bus.advance(0.9)
    assert [] == await puller.fetch(limit=1, wait_s=0.0)
    bus.advance(1.2)
    assert 1 == len(await puller.fetch(limit=1, wait_s=0.0))


async def test_without_a_server_a_token_comes_back(
    bus: MemoryBus, objects: ObjectStore, tmp_path: Path
) -> None:
    await take_token(bus, handler(bus, objects, tmp_path, asyncio.Event()))

    bus.advance(1.0)
    assert 1 == len(await bus.puller(train_lane("default")).fetch(limit=1, wait_s=0.0))


async def test_a_worker_that_drains_asks_for_nothing(
    bus: MemoryBus, objects: ObjectStore, server: LaneServer, tmp_path: Path
) -> None:
    draining = asyncio.Event()
    draining.set()

    await take_token(bus, handler(bus, objects, tmp_path, draining))

    assert [] == server.claims
    assert 1 == len(await bus.puller(train_lane("default")).fetch(limit=1, wait_s=0.0))


async def test_a_message_that_is_no_token_is_kept_for_an_operator(
    bus: MemoryBus, objects: ObjectStore, server: LaneServer, tmp_path: Path
) -> None:
    await bus.publish(subjects.train_job("default", "job-1"), EmbedJob(job_id="job-1", publish_number=1))
    (delivery,) = await bus.puller(train_lane("default")).fetch(limit=1, wait_s=1.0)

    await handler(bus, objects, tmp_path, asyncio.Event()).handle(delivery)

    assert 0 == bus.count(WORK)
    assert ["INVALID_INPUT"] == [letter.code for letter in await bus.dead_letters.read()]
