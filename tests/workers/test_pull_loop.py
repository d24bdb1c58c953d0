"""How much work a lane of a worker holds at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from bus import subjects
from bus.memory import MemoryBus
from bus.messages import EmbedJob
from bus.port import Delivery, Puller
from bus.topology import embed_bulk
from tests.workers.rig import soon
from workers.pull_loop import PullLoop

POOL = "default"


def _is_short(delivery: Delivery) -> bool:
    return isinstance(delivery.message, EmbedJob) and delivery.message.is_short


class Hands:
    """Holds every delivery until it is let go, and remembers how many were held at once."""

    def __init__(self) -> None:
        self.held: dict[str, asyncio.Event] = {}
        self.most = 0
        self.done: list[str] = []

    async def take(self, delivery: Delivery) -> None:
        """Hold one delivery."""
        assert isinstance(delivery.message, EmbedJob)
        job_id = delivery.message.job_id
        self.held[job_id] = asyncio.Event()
        self.most = max(self.most, len(self.held))
        await self.held[job_id].wait()
        del self.held[job_id]
        self.done.append(job_id)
        await delivery.ack()

    def let_all_go(self) -> None:
        """Finish what is held."""
        for event in self.held.values():
            event.set()


@asynccontextmanager
async def _running(
    bus: MemoryBus, hands: Hands, *, room: int, puller: Puller | None = None
) -> AsyncIterator[None]:
    puller = puller or bus.puller(embed_bulk(POOL))
    loop = PullLoop("bulk", puller, hands.take, room=room, is_short=_is_short)
    stop = asyncio.Event()
    running = asyncio.create_task(loop.run(stop))
    yield
    stop.set()
    hands.let_all_go()
    await asyncio.wait_for(running, 10)


async def _publish(bus: MemoryBus, *job_ids: str, is_short: bool) -> None:
    for job_id in job_ids:
        command = EmbedJob(job_id=job_id, publish_number=1, is_short=is_short)
        await bus.publish(subjects.embed_job(POOL, job_id), command)


async def test_short_jobs_are_held_by_the_roomful(bus: MemoryBus) -> None:
    hands = Hands()
    await _publish(bus, *map(str, range(20)), is_short=True)

    async with _running(bus, hands, room=8):
        await soon(lambda: len(hands.held) == 8)

        def are_all_done() -> bool:
            hands.let_all_go()
            return len(hands.done) == 20

        await soon(are_all_done)

    assert 8 == hands.most
    assert set(map(str, range(20))) == set(hands.done)


async def test_of_long_jobs_one_is_held_and_the_others_are_left_to_other_workers(bus: MemoryBus) -> None:
    hands, others = Hands(), Hands()
    await _publish(bus, "a", "b", is_short=False)

    async with _running(bus, hands, room=8):
        await soon(lambda: bool(hands.held))
        async with _running(bus, others, room=8):
            await soon(lambda: bool(others.held))

    assert (1, 1) == (hands.most, others.most)
    assert ["a", "b"] == sorted(hands.done + others.done)


async def test_a_long_job_among_short_ones_sends_further_long_ones_back(bus: MemoryBus) -> None:
    hands, others = Hands(), Hands()
    await _publish(bus, "s1", "s2", "s3", is_short=True)
    await _publish(bus, "long1", "long2", "long3", is_short=False)

    async with _running(bus, hands, room=8):
        # Windows of one, two and four: the third has all of the long ones.
        await soon(lambda: {"s1", "s2", "s3", "long1"} == set(hands.held))
        async with _running(bus, others, room=8):
            await soon(lambda: bool(others.held))
            assert 1 == len(others.held)

    assert not {"long2", "long3"} & set(hands.done)


class CountedPuller:
    """Remembers how much was asked for each time."""

    def __init__(self, puller: Puller) -> None:
        self._puller = puller
        self.limits: list[int] = []

    async def fetch(self, *, limit: int, wait_s: float) -> list[Delivery]:
        self.limits.append(limit)
        return await self._puller.fetch(limit=limit, wait_s=wait_s)

    async def close(self) -> None:
        await self._puller.close()


async def test_short_jobs_that_end_one_by_one_are_followed_by_several_at_a_time(bus: MemoryBus) -> None:
    hands = Hands()
    await _publish(bus, *map(str, range(16)), is_short=True)
    puller = CountedPuller(bus.puller(embed_bulk(POOL)))

    async with _running(bus, hands, room=8, puller=puller):
        await soon(lambda: len(hands.held) == 8)
        asked = len(puller.limits)
        for _ in range(8):
            before = len(hands.done)
            next(iter(hands.held.values())).set()
            await soon(partial(lambda number: len(hands.done) > number, before))
        await soon(lambda: len(hands.held) == 8)

    # A quarter of the room each time, where nothing ends while a window is on its way.
    assert [2, 2, 2, 2] == puller.limits[asked : asked + 4]
