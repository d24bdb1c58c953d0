"""The embed worker's process: load, serve, and leave without dropping anything."""

import asyncio
import gc
import logging
import os
import socket
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

from bus.client import NatsBus
from bus.objects import ObjectStore
from bus.settings import SettingsError, variable_of
from workers.embed.batching import BatchLimits
from workers.embed.engine import Engine, EngineSettings
from workers.embed.hosting import Pipeline
from workers.embed.job_attempt import Tools
from workers.embed.models.files import ModelFiles
from workers.embed.models.shelf import ModelShelf
from workers.embed.pipelines.table import PIPELINES, PipelineEntry
from workers.embed.registry import Announcer, hosted_pipelines
from workers.embed.sacrifice.engine import SacrificialEngine
from workers.embed.serving import EmbedWorker, ServeSettings
from workers.embed.settings import EmbedSettings
from workers.process import ReadyFile, WorkerFailed, run_worker, start_unless_told

logger = logging.getLogger(__name__)

#: What a sacrificial child loads its pipeline, or model, with.
_LOADER = "workers.embed.models.alone:load_alone"


async def run(settings: EmbedSettings, stop: asyncio.Event) -> None:
    """Host the pipelines until ``stop`` is set.

    Raises:
        SettingsError: a pipeline to host is unknown.
        WorkerFailed: a pipeline can't be loaded.
        BusError: the bus or the object store can't be reached.
    """
    entries = _chosen(settings.worker_pipelines)
    async with AsyncExitStack() as stack:
        worker = await start_unless_told(_start(settings, entries, stack), stop)
        if worker is None:
            return
        with ReadyFile(settings.worker_ready_file):
            logger.info("ready: hosting %s", ", ".join(entry.name for entry in entries))
            await worker.serve(stop)
    logger.info("stopped")


async def _start(
    settings: EmbedSettings, entries: Sequence[PipelineEntry], stack: AsyncExitStack
) -> EmbedWorker:
    """Load the pipelines while the connections are made; ``stack`` closes what was opened."""
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
    loading = asyncio.create_task(asyncio.to_thread(_load, settings, entries))
    try:
        bus = await NatsBus.connect(settings.nats_url, name=worker_id, credentials=settings.nats_credentials)
        stack.push_async_callback(bus.close)
        objects = ObjectStore.open(settings.object_store_url)
        pipelines = await loading
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
    engine = Engine(pipelines, _engine_settings(settings))
    stack.push_async_callback(engine.close)
    folder = settings.worker_models_dir or Path(
        stack.enter_context(tempfile.TemporaryDirectory(prefix="towhee-models-"))
    )
    models = _shelf(settings, ModelFiles(objects, folder, max_bytes=settings.worker_models_bytes), pipelines)
    stack.push_async_callback(models.close)
    alone = SacrificialEngine(
        _LOADER, {"max_pixels": settings.worker_max_pixels, "models_folder": str(folder.absolute())}
    )
    stack.push_async_callback(alone.close)
    announcer = Announcer(
        bus,
        worker_id,
        hosted_pipelines(entries, settings.worker_pool),
        models_pool=settings.worker_pool,
    )
    tools = Tools(bus=bus, engine=engine, alone=alone, objects=objects, worker_id=worker_id, models=models)
    serve = ServeSettings(pool=settings.worker_pool, drain_s=settings.drain_s)
    return EmbedWorker(tools, announcer, serve)


def main() -> int:
    """Run the worker with the settings of the environment; give the exit code."""
    return run_worker(EmbedSettings, run, os.environ)


def _chosen(names: Sequence[str]) -> list[PipelineEntry]:
    known = {entry.name: entry for entry in PIPELINES}
    for name in names:
        if name not in known:
            raise SettingsError(
                variable_of("worker_pipelines"), f"names {name}, which is none of {', '.join(known)}"
            )
    return [known[name] for name in names] or list(PIPELINES)


def _engine_settings(settings: EmbedSettings) -> EngineSettings:
    limits = BatchLimits(tokens=settings.worker_batch_tokens)
    return EngineSettings(limits=limits, prepare_threads=settings.worker_decode_threads)


def _load(settings: EmbedSettings, entries: Sequence[PipelineEntry]) -> dict[str, Pipeline]:
    logger.info("loading torch and Towhee")
    # Imported here because importing torch takes seconds and fixes the number of its threads.
    from workers.embed.pipelines.loading import Loader  # noqa: PLC0415
    from workers.towhee_door import TowheeDoor, TowheeError  # noqa: PLC0415

    try:
        pipelines = Loader(TowheeDoor.open(), max_pixels=settings.worker_max_pixels).load(entries)
    except (TowheeError, ImportError, OSError) as error:
        raise WorkerFailed(f"the pipelines can't be loaded: {error}") from error
    # Models live as long as the process: the garbage collector need not look at them again.
    gc.collect()
    gc.freeze()
    return pipelines


def _shelf(settings: EmbedSettings, files: ModelFiles, pipelines: dict[str, Pipeline]) -> ModelShelf:
    """Serve deployed models beside the pipelines."""

    def load(folder: Path, dimension: int) -> Pipeline:
        # On its thread: most workers never see a deployed model, and need none of the nets.
        from workers.embed.models.trained import open_trained  # noqa: PLC0415

        return open_trained(folder, dimension=dimension, max_pixels=settings.worker_max_pixels)

    return ModelShelf(files, load, pipelines)
