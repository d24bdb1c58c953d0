"""A real worker process of the poison pool: it dies of what it is given, as a real one would."""

import asyncio
import os
import signal
import sys
from uuid import uuid4

from bus.client import NatsBus
from bus.messages import HostedPipeline
from bus.objects import ObjectStore
from tests.workers.poison import load
from tests.workers.toys import DIMENSION
from workers.embed.engine import Engine, EngineSettings
from workers.embed.job_attempt import Tools
from workers.embed.registry import Announcer
from workers.embed.sacrifice.engine import SacrificialEngine
from workers.embed.serving import EmbedWorker, ServeSettings

HOSTED = HostedPipeline(
    name="toy", version="1", modality="TEXT", dimension=DIMENSION, pool="default", auto_rank=1
)


async def main() -> None:
    """Serve until SIGTERM."""
    worker_id = f"poison-{os.getpid()}-{uuid4().hex[:4]}"
    bus = await NatsBus.connect(os.environ["NATS_URL"], name=worker_id)
    engine = Engine(load("toy", {}), EngineSettings())
    alone = SacrificialEngine("tests.workers.poison:load")
    tools = Tools(
        bus=bus,
        engine=engine,
        alone=alone,
        objects=ObjectStore.open(os.environ["OBJECT_STORE_URL"]),
        worker_id=worker_id,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    worker = EmbedWorker(
        tools, Announcer(bus, worker_id, [HOSTED]), ServeSettings(pool="default", drain_s=10.0)
    )
    await worker.serve(stop)
    await alone.close()
    await engine.close()
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
