"""Which train workers there are."""

import asyncio

import msgspec
import pytest

from bus import subjects
from bus.envelope import Message
from bus.memory import MemoryBus
from bus.messages import AnnounceTrainers, TrainersAnnounced
from server.trainers import Trainers

FIRST = TrainersAnnounced(worker_id="t1", pool="default", device="cpu", samples=["names", "digits"])
SECOND = TrainersAnnounced(worker_id="t2", pool="big", device="cuda", samples=["digits", "cifar10"])


class Clock:
    """A clock that a test moves."""

    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trainers(bus: MemoryBus, clock: Clock) -> Trainers:
    return Trainers(bus, clock=clock)


async def test_a_server_that_starts_asks_every_train_worker_and_hears_it(bus: MemoryBus) -> None:
    asked: list[Message] = []
    has_heard = asyncio.Event()

    async def answer(message: Message) -> None:
        asked.append(message)
        await bus.tell(subjects.TRAINERS_ANNOUNCED, FIRST)

    async def notice(_: Message) -> None:
        has_heard.set()

    await bus.follow(subjects.TRAINERS_WANTED, answer)
    trainers = Trainers(bus)
    await trainers.start()
    # After the server's own, so that it has heard by then.
    await bus.follow(subjects.TRAINERS_ANNOUNCED, notice)

    await asyncio.wait_for(has_heard.wait(), 5)

    assert [AnnounceTrainers] == [type(message) for message in asked]
    assert ["default"] == trainers.pools()
    await trainers.close()


async def test_samples_and_pools_are_those_of_all_workers(trainers: Trainers) -> None:
    for announced in (FIRST, SECOND):
        await trainers._hear(announced)

    assert ["cifar10", "digits", "names"] == trainers.samples()
    assert ["big", "default"] == trainers.pools()
    assert trainers.is_available("big")
    assert not trainers.is_available("small")


async def test_a_worker_that_is_silent_for_ten_seconds_counts_as_gone(
    trainers: Trainers, clock: Clock
) -> None:
    await trainers._hear(FIRST)
    clock.now_s += 9.9
    await trainers._hear(SECOND)
    assert trainers.is_available("default")

    clock.now_s += 0.2

    assert ["big"] == trainers.pools()


async def test_a_worker_that_leaves_is_gone_at_once(trainers: Trainers) -> None:
    await trainers._hear(FIRST)

    await trainers._hear(msgspec.structs.replace(FIRST, leaving=True))

    assert ([], []) == (trainers.samples(), trainers.pools())


async def test_a_job_goes_to_the_default_pool_unless_only_another_one_has_the_sample(
    trainers: Trainers,
) -> None:
    assert "default" == trainers.choose_pool()
    await trainers._hear(SECOND)
    assert "big" == trainers.choose_pool()
    await trainers._hear(FIRST)

    assert "default" == trainers.choose_pool()
    assert ("default", "big") == (trainers.choose_pool("digits"), trainers.choose_pool("cifar10"))


async def test_what_has_no_place_there_is_passed_over(trainers: Trainers) -> None:
    await trainers._hear(AnnounceTrainers())

    assert [] == trainers.pools()
