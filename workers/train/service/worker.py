"""The train worker's process: it trains nothing itself, and never loads torch."""

import asyncio
import logging
import os
import socket
from contextlib import AsyncExitStack
from uuid import uuid4

from bus.client import NatsBus
from bus.messages import TrainersAnnounced
from bus.objects import ObjectStore
from workers.process import ReadyFile, WorkerFailed, run_worker, start_unless_told
from workers.train.service.announcing import Announcer
from workers.train.service.cache import FileCache
from workers.train.service.children import Nursery
from workers.train.service.ends import NotStarted
from workers.train.service.folders import Folders
from workers.train.service.frames import Plan, Ready
from workers.train.service.serving import TrainWorker
from workers.train.service.settings import TrainSettings
from workers.train.service.tools import Times, Tools
from workers.train.service.watching import WatchSettings

logger = logging.getLogger(__name__)


async def run(settings: TrainSettings, stop: asyncio.Event) -> None:
    """Take work until ``stop`` is set.

    Raises:
        WorkerFailed: no child can be started.
        BusError: the bus or the object store can't be reached.
    """
    async with AsyncExitStack() as stack:
        worker = await start_unless_told(_start(settings, stack), stop)
        if worker is None:
            return
        with ReadyFile(settings.worker_ready_file):
            logger.info("ready: training in pool %s", settings.worker_pool)
            await worker.serve(stop)
    logger.info("stopped")


async def _start(settings: TrainSettings, stack: AsyncExitStack) -> TrainWorker:
    """Warm the first child while the connections are made; ``stack`` closes what was opened."""
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
    folders = Folders(settings.train_cache_dir)
    stack.callback(folders.close)
    nursery = Nursery(folders, Plan(parent_pid=os.getpid(), device=settings.train_device))
    stack.push_async_callback(nursery.let_go)
    nursery.warm()
    bus = await NatsBus.connect(settings.nats_url, name=worker_id, credentials=settings.nats_credentials)
    stack.push_async_callback(bus.close)
    objects = ObjectStore.open(settings.object_store_url)
    try:
        facts = await nursery.facts()
        crews = _crews(settings, folders, facts)
        if crews is not None:
            stack.push_async_callback(crews.let_go)
            facts = await crews.facts()
    except NotStarted as error:
        raise WorkerFailed(f"trainings can't be started: {error}") from error
    if not settings.train_prewarm:
        for children in filter(None, (nursery, crews)):
            await children.let_go()
    announcement = TrainersAnnounced(
        worker_id=worker_id, pool=settings.worker_pool, device=facts.device, samples=facts.samples
    )
    tools = Tools(
        bus=bus,
        objects=objects,
        cache=FileCache(objects, folders.files, max_bytes=settings.train_cache_bytes),
        nursery=nursery,
        crews=crews,
        pool=settings.worker_pool,
        worker_id=worker_id,
        watch=WatchSettings(
            silent_s=settings.train_watchdog_s, max_memory_bytes=settings.train_max_memory_bytes
        ),
        times=Times(checkpoint_every_s=settings.train_checkpoint_every_s, drain_s=settings.drain_s),
        prewarms=settings.train_prewarm,
    )
    return TrainWorker(
        tools,
        Announcer(bus, announcement),
        slots=settings.train_slots,
        data_slots=settings.train_data_slots,
    )


def _crews(settings: TrainSettings, folders: Folders, facts: Ready) -> Nursery | None:
    """Where trainings of several processes get them; None where one process trains alone."""
    processes = settings.train_processes or max(1, facts.num_gpus)
    if processes == 1:
        return None
    plan = Plan(parent_pid=os.getpid(), device=settings.train_device, processes=processes)
    return Nursery(folders, plan)


def main() -> int:
    """Run the worker with the settings of the environment; give the exit code."""
    return run_worker(TrainSettings, run, os.environ)
