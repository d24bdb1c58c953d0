"""The bus inside one process."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bus import subjects, topology
from bus.errors import StreamFull
from bus.memory import MemoryBus
from bus.messages import EmbedJob
from bus.port import Bus
from bus.topology import Limits, Topology
from tests.bus.contract_bus import LIMITS, POOLS, Bench, BusContract, fetch_one, job, publish_jobs, subject_of


class TestMemoryBus(BusContract):
    @pytest.fixture
    async def bench(self) -> AsyncIterator[Bench]:
        memory = MemoryBus(Topology.for_pools(POOLS, limits=LIMITS))

        async def put_raw(subject: str, raw: bytes) -> None:
            memory.put_raw(subject, raw)

        async def tell_raw(subject: str, raw: bytes) -> None:
            memory.tell_raw(subject, raw)

        async def count(stream: str) -> int:
            return memory.count(stream)

        yield Bench(bus=memory, put_raw=put_raw, tell_raw=tell_raw, count=count)
        await memory.close()


def test_it_satisfies_the_port() -> None:
    _: Bus = MemoryBus()


async def test_an_ack_wait_can_pass_without_waiting(bus: MemoryBus) -> None:
    await publish_jobs(bus, range(1))
    puller = bus.puller(topology.embed_bulk("default"))
    await fetch_one(puller)
    waiting = asyncio.create_task(puller.fetch(limit=1, wait_s=3600.0))
    await asyncio.sleep(0)

    bus.advance(12.5)

    (again,) = await asyncio.wait_for(waiting, 5.0)
    assert again.num_delivered == 2


async def test_messages_and_message_ids_age(bus: MemoryBus) -> None:
    await bus.publish(subject_of(1), job(1), message_id="1:1")
    bus.advance(11 * 60)
    await bus.publish(subject_of(1), job(1), message_id="1:1")
    assert bus.count(topology.JOBS) == 2

    bus.advance(7 * 24 * 3600)

    assert bus.count(topology.JOBS) == 0


async def test_a_restart_empties_what_was_in_memory_and_tells_who_asked_to_know(bus: MemoryBus) -> None:
    restarts: list[int] = []

    async def note() -> None:
        restarts.append(1)

    bus.on_reconnect(note)
    await publish_jobs(bus, range(1))
    await bus.publish(subjects.interactive("default"), job(1))

    await bus.restart()

    assert (1, 0) == (bus.count(topology.JOBS), bus.count(topology.INTERACTIVE))
    assert restarts == [1]


async def test_bytes_count_against_a_stream_too() -> None:
    bus = MemoryBus(Topology.for_pools(["default"], limits=Limits(jobs_max_bytes=1000)))

    with pytest.raises(StreamFull):
        await bus.publish(subject_of(1), EmbedJob(job_id="x" * 1000, publish_number=1))


async def test_a_late_nak_does_not_bring_back_what_somebody_else_has_finished(bus: MemoryBus) -> None:
    await publish_jobs(bus, range(1))
    puller = bus.puller(topology.embed_bulk("default"))
    first = await fetch_one(puller)
    bus.advance(13.0)
    await (await fetch_one(puller)).ack()

    await first.nak()

    assert bus.count(topology.JOBS) == 0
