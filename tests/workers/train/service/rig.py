"""A train worker on a bus inside the test's process, with real children."""

import asyncio
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import torch

from bus.messages import (
    PreparedDataset,
    RnnParameters,
    StoredFiles,
    TrainersAnnounced,
    TrainingSpec,
    TrainingWork,
)
from bus.objects import ObjectStore
from bus.port import Bus
from tests.workers.train.service import stand_in
from workers.train.report import ignore
from workers.train.service.announcing import Announcer
from workers.train.service.cache import FileCache
from workers.train.service.children import Nursery
from workers.train.service.folders import Folders
from workers.train.service.frames import Plan, ResourceLimits
from workers.train.service.serving import TrainWorker
from workers.train.service.storing import store_files
from workers.train.service.tools import Times, Tools
from workers.train.service.watching import WatchSettings

STAND_IN = "tests.workers.train.service.stand_in"
DATASET = "dataset-1"


class RunningWorker:
    """A train worker that serves until it is told to stop."""

    def __init__(
        self,
        bus: Bus,
        objects: ObjectStore,
        cache: Path,
        *,
        name: str = "worker-1",
        prewarms: bool = False,
        modules: tuple[str, str] = (STAND_IN, STAND_IN),
        watch: WatchSettings | None = None,
        limits: ResourceLimits | None = None,
        processes: int = 1,
        **times: Any,
    ) -> None:
        self.folders = Folders(cache)
        plan = Plan(parent_pid=os.getpid(), device="cpu", run=modules[0], datasets=modules[1])
        self.nursery = Nursery(self.folders, plan)
        crew = msgspec.structs.replace(plan, processes=processes)
        self.crews = None if processes == 1 else Nursery(self.folders, crew)
        self.tools = Tools(
            bus=bus,
            objects=objects,
            cache=FileCache(objects, self.folders.files, max_bytes=1 << 30),
            nursery=self.nursery,
            crews=self.crews,
            pool="default",
            worker_id=name,
            prewarms=prewarms,
            watch=watch or WatchSettings(silent_s=30.0, look_every_s=0.05),
            limits=limits or ResourceLimits(),
            times=Times(**{"heartbeat_every_s": 0.05, "checkpoint_every_s": 0.2, "drain_s": 10.0} | times),
        )
        said = TrainersAnnounced(worker_id=name, pool="default", device="cpu", samples=["digits"])
        self._worker = TrainWorker(self.tools, Announcer(bus, said), slots=1, data_slots=1)
        self._stop = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve, with a child that is warm."""
        await self.tools.trainees.facts()
        self.task = asyncio.create_task(self._worker.serve(self._stop))

    async def stop(self) -> None:
        """Do what SIGTERM does and wait until it has drained."""
        self._stop.set()
        try:
            if self.task is not None:
                async with asyncio.timeout(30.0):
                    await self.task
        finally:
            for nursery in {self.nursery, self.tools.trainees}:
                await nursery.let_go()
            self.folders.close()


class Workers:
    """Starts workers that are stopped when the test ends."""

    def __init__(self, bus: Bus, objects: ObjectStore, folder: Path, stack: AsyncExitStack) -> None:
        self._bus = bus
        self._objects = objects
        self._folder = folder
        self._stack = stack

    async def start(self, **options: Any) -> RunningWorker:
        """Start one."""
        worker = RunningWorker(self._bus, self._objects, self._folder, **options)
        self._stack.push_async_callback(worker.stop)
        await worker.start()
        return worker


async def training(
    objects: ObjectStore,
    tmp_path: Path,
    name: str = "digits",
    *,
    max_steps: int = 60,
    seed: int = 3,
    batch_size: int = 32,
) -> TrainingWork:
    """A training on a data set that lies in the object store."""
    folder = tmp_path / "prepared"
    folder.mkdir(exist_ok=True)
    (folder / "data.json").write_text(json.dumps(["a", "b"]))
    stored = await store_files(objects, folder, f"datasets/{DATASET}")
    parameters = RnnParameters(batch_size=batch_size)
    return TrainingWork(
        spec=TrainingSpec(name=name, parameters=parameters, seed=seed, max_steps=max_steps),
        dataset=PreparedDataset(dataset_id=DATASET, name="digits", sha256="0" * 64, stored=stored),
        model_id=f"model-{name.replace(' ', '-')}",
    )


def undisturbed_weights(folder: Path, name: str, *, max_steps: int, seed: int = 3) -> bytes:
    """The weights that a training ends with which nothing happens to; here, in the test's own process."""
    torch.set_num_threads(1)
    spec = TrainingSpec(name=name, parameters=RnnParameters(batch_size=32), seed=seed, max_steps=max_steps)
    trainer = stand_in.build_trainer(spec, ["a", "b"], folder / "undisturbed", ignore, device="cpu")
    trainer.train()
    stand_in.export_model(trainer, [], folder / "exported", data_name="digits")
    return (folder / "exported" / "encoder" / "weights.bin").read_bytes()


async def weights(objects: ObjectStore, stored: StoredFiles) -> bytes:
    """The weights of an exported model."""
    return await objects.get(f"{stored.prefix}/encoder/weights.bin")


def child_pids(pid: int) -> set[int]:
    """The processes that a process has started and that are trainings of ours."""
    found = set()
    for entry in Path(f"/proc/{pid}/task").iterdir():
        found |= {int(child) for child in (entry / "children").read_text().split()}
    return {child for child in found if b"workers.train.service.child" in _command(child)}


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
