"""What a server does by itself, as soon as its services have started."""

import asyncio

import msgspec

from bus import subjects
from bus.memory import MemoryBus
from bus.messages import EmbedJob
from bus.topology import embed_bulk
from server.services import Services
from tests.support.embedding import until


async def test_a_server_moves_what_was_delivered_too_often(services: Services, bus: MemoryBus) -> None:
    spec = bus._consumers[embed_bulk("default")]
    bus._consumers[spec.name] = msgspec.structs.replace(spec, max_deliver=1)
    await bus.publish(subjects.embed_job("default", "1"), EmbedJob(job_id="1", publish_number=1))
    [delivery] = await asyncio.wait_for(bus.puller(spec.name).fetch(limit=1, wait_s=1), 5)
    await delivery.nak()

    async def is_moved() -> bool:
        return ["max-deliveries"] == [letter.code for letter in await bus.dead_letters.read()]

    await until(is_moved)
