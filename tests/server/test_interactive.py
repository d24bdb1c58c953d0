"""The interactive lane when things go wrong: deadlines, full streams, lost workers, lost connections."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from bus import tracing
from bus.envelope import Message
from bus.errors import BusError, NotPermitted, PublishFailed, StreamFull
from bus.memory import MemoryBus
from bus.messages import EmbeddingRefused, EmbedNow
from bus.port import Bus
from bus.topology import embed_interactive
from server.errors import Busy, PipelineUnavailable, ServiceError, TimedOut, UnsupportedMedia
from tests.support.embedding import TEXT_PIPELINE, EmbedWorker, Replica, vector_of

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class PickyBus(MemoryBus):
    """A bus that refuses to publish while told so, and remembers the message ids."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal: BusError | None = None
        self.message_ids: list[str | None] = []

    async def publish(
        self,
        subject: str,
        message: Message,
        *,
        message_id: str | None = None,
        deadline_s: float = 15.0,
        ttl_s: float | None = None,
    ) -> None:
        """Publish, or raise what was set."""
        if self.refusal is not None:
            raise self.refusal
        self.message_ids.append(message_id)
        await super().publish(subject, message, message_id=message_id, deadline_s=deadline_s, ttl_s=ttl_s)


@pytest.fixture
def bus() -> PickyBus:
    return PickyBus()


@pytest.fixture
async def replica(bus: PickyBus) -> AsyncIterator[Replica]:
    replica = Replica(bus)
    await replica.lane.start()
    yield replica
    await replica.lane.close()


async def _take_one(bus: Bus) -> EmbedNow:
    """Take a command off the lane and lose it."""
    [delivery] = await bus.puller(embed_interactive("default")).fetch(limit=1, wait_s=5.0)
    assert isinstance(delivery.message, EmbedNow)
    return delivery.message


async def test_past_the_deadline_it_is_a_timeout_and_nothing_is_left_behind(replica: Replica) -> None:
    with pytest.raises(TimedOut):
        await replica.rows("a", timeout_s=0.05)

    assert 0 == replica.lane.num_pending


async def test_a_command_carries_the_deadline_and_the_inbox(bus: PickyBus, replica: Replica) -> None:
    asking = asyncio.create_task(replica.rows("a", timeout_s=7.0))
    command = await _take_one(bus)

    assert 6.0 < (command.deadline_at - datetime.now(UTC)).total_seconds() <= 7.0
    assert "reply.r1" == command.reply_to
    asking.cancel()


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (StreamFull("full"), Busy),
        (PublishFailed("no ack"), TimedOut),
        (NotPermitted("no"), PipelineUnavailable),
    ],
)
async def test_what_the_bus_refuses_is_told_at_once_with_when_to_come_back(
    bus: PickyBus, replica: Replica, refusal: BusError, error: type[ServiceError]
) -> None:
    bus.refusal = refusal

    with pytest.raises(error) as refused:
        await replica.rows("a")

    assert refused.value.retry_after_s is not None
    assert 0 == replica.lane.num_pending

    bus.refusal = None
    worker = EmbedWorker(bus, [TEXT_PIPELINE])
    await worker.start()
    np.testing.assert_array_equal(vector_of("a", 8), (await replica.rows("a")).vectors[0])
    await worker.close()


async def test_a_replica_that_waits_for_enough_takes_no_more_and_forgets_nobody(bus: PickyBus) -> None:
    replica = Replica(bus, max_pending=2)
    await replica.lane.start()
    asking = [asyncio.create_task(replica.rows(text)) for text in ("a", "b")]
    commands = [await _take_one(bus) for _ in asking]

    # What is on its way already costs no room.
    sharing = asyncio.create_task(replica.rows("a", "b"))
    with pytest.raises(Busy) as refusal:
        await replica.rows("a", "c")

    assert 1.0 == refusal.value.retry_after_s
    worker = EmbedWorker(bus, [TEXT_PIPELINE])
    for command in commands:
        for answer in worker.answers(command):
            await bus.tell(command.reply_to, answer)
    assert 2 == len((await sharing).vectors)
    await asyncio.gather(*asking)
    assert 0 == replica.lane.num_pending
    await replica.lane.close()


async def test_a_worker_may_refuse_a_command(bus: PickyBus, replica: Replica) -> None:
    asking = asyncio.create_task(replica.rows("a"))
    command = await _take_one(bus)

    await bus.tell(
        command.reply_to,
        EmbeddingRefused(
            request_id=command.request_id, first_index=0, code="UNSUPPORTED_MEDIA", message="What is this?"
        ),
    )

    with pytest.raises(UnsupportedMedia, match="What is this"):
        await asking


async def test_a_worker_that_dies_in_the_middle_is_made_up_for_by_the_next(
    bus: PickyBus, replica: Replica
) -> None:
    texts = [f"t{number}" for number in range(12)]
    asking = asyncio.create_task(replica.rows(*texts, timeout_s=30.0))
    command = await _take_one(bus)
    for chunk in EmbedWorker(bus, [TEXT_PIPELINE]).answers(command)[:2]:
        await bus.tell(command.reply_to, chunk)

    # Nobody acknowledged it, so the bus hands it to another worker, which cuts it into other chunks.
    other = EmbedWorker(bus, [TEXT_PIPELINE], chunk_rows=7)
    await other.start()
    bus.advance(13.0)

    np.testing.assert_array_equal(np.stack([vector_of(text, 8) for text in texts]), (await asking).vectors)
    assert [command.request_id] == [again.request_id for again in other.commands]
    await other.close()


async def test_answers_that_come_again_or_too_late_are_ignored(bus: PickyBus, replica: Replica) -> None:
    asking = asyncio.create_task(replica.rows("a"))
    command = await _take_one(bus)
    [answer] = EmbedWorker(bus, [TEXT_PIPELINE]).answers(command)
    await bus.tell(command.reply_to, answer)
    rows = await asking

    await bus.tell(command.reply_to, answer)

    np.testing.assert_array_equal(vector_of("a", 8), rows.vectors[0])
    assert 0 == replica.lane.num_pending


async def test_after_a_reconnect_what_is_unanswered_is_published_again_under_another_message_id(
    bus: PickyBus, replica: Replica
) -> None:
    asking = asyncio.create_task(replica.rows("a"))
    lost = await _take_one(bus)

    await bus.restart()

    again = await _take_one(bus)
    assert lost.request_id == again.request_id
    assert 2 == len(set(bus.message_ids))
    for chunk in EmbedWorker(bus, [TEXT_PIPELINE]).answers(again):
        await bus.tell(again.reply_to, chunk)
    np.testing.assert_array_equal(vector_of("a", 8), (await asking).vectors[0])


async def test_what_is_published_again_stays_in_the_trace_of_its_request(
    bus: PickyBus, replica: Replica
) -> None:
    puller = bus.puller(embed_interactive("default"))
    with tracing.continuing({tracing.TRACEPARENT: TRACEPARENT}):
        asking = asyncio.create_task(replica.rows("a"))
    [lost] = await puller.fetch(limit=1, wait_s=5.0)

    # In no trace, as every callback of a connection.
    await bus.restart()

    [again] = await puller.fetch(limit=1, wait_s=5.0)
    assert [TRACEPARENT] * 2 == [delivery.headers[tracing.TRACEPARENT] for delivery in (lost, again)]
    asking.cancel()


async def test_when_the_only_caller_leaves_nothing_waits_any_more(bus: PickyBus, replica: Replica) -> None:
    asking = asyncio.create_task(replica.rows("a"))
    await _take_one(bus)

    asking.cancel()
    await asyncio.wait({asking})

    assert asking.cancelled()
    assert 0 == replica.lane.num_pending


async def test_when_the_first_caller_leaves_the_others_still_get_their_rows(
    bus: PickyBus, replica: Replica
) -> None:
    first = asyncio.create_task(replica.rows("a"))
    command = await _take_one(bus)
    second = asyncio.create_task(replica.rows("a"))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})

    for chunk in EmbedWorker(bus, [TEXT_PIPELINE]).answers(command):
        await bus.tell(command.reply_to, chunk)

    np.testing.assert_array_equal(vector_of("a", 8), (await second).vectors[0])


async def test_whoever_joined_late_asks_again_when_the_first_one_runs_out_of_time(
    bus: PickyBus, replica: Replica
) -> None:
    impatient = asyncio.create_task(replica.rows("a", timeout_s=0.1))
    await _take_one(bus)
    patient = asyncio.create_task(replica.rows("a", timeout_s=10.0))

    with pytest.raises(TimedOut):
        await impatient
    command = await _take_one(bus)
    for chunk in EmbedWorker(bus, [TEXT_PIPELINE]).answers(command):
        await bus.tell(command.reply_to, chunk)

    np.testing.assert_array_equal(vector_of("a", 8), (await patient).vectors[0])


async def test_one_refused_command_refuses_the_request_and_forgets_the_rest(
    bus: PickyBus, replica: Replica
) -> None:
    asking = asyncio.create_task(replica.rows(*(f"t{number}" for number in range(64))))
    first = await _take_one(bus)
    assert 2 == replica.lane.num_pending

    await bus.tell(
        first.reply_to,
        EmbeddingRefused(request_id=first.request_id, first_index=0, code="BUSY", message="Full."),
    )

    with pytest.raises(Busy):
        await asking
    assert 0 == replica.lane.num_pending


async def test_rows_of_another_dimension_are_no_answer(bus: PickyBus, replica: Replica) -> None:
    asking = asyncio.create_task(replica.rows("a"))
    command = await _take_one(bus)
    other = msgspec.structs.replace(TEXT_PIPELINE, dimension=4)

    [answer] = EmbedWorker(bus, [other]).answers(command)
    await bus.tell(command.reply_to, answer)

    with pytest.raises(PipelineUnavailable, match="changed"):
        await asking


async def test_a_server_that_shuts_down_tells_whoever_waits(bus: PickyBus) -> None:
    replica = Replica(bus)
    await replica.lane.start()
    asking = asyncio.create_task(replica.rows("a"))
    await _take_one(bus)

    await replica.lane.close()

    with pytest.raises(PipelineUnavailable, match="shutting down"):
        await asking


async def test_each_replica_gets_its_own_answers(bus: PickyBus) -> None:
    replicas = [Replica(bus, replica_id) for replica_id in ("r1", "r2")]
    worker = EmbedWorker(bus, [TEXT_PIPELINE])
    await worker.start()
    for replica in replicas:
        await replica.lane.start()

    rows = await asyncio.gather(*(replica.rows(f"t{index}") for index, replica in enumerate(replicas)))

    for index, answer in enumerate(rows):
        np.testing.assert_array_equal(vector_of(f"t{index}", 8), answer.vectors[0])
    await asyncio.gather(worker.close(), *(replica.lane.close() for replica in replicas))


async def test_a_message_that_is_no_answer_does_not_hurt(bus: PickyBus, replica: Replica) -> None:
    asking = asyncio.create_task(replica.rows("a"))
    command = await _take_one(bus)
    await bus.tell(command.reply_to, command)
    [answer] = EmbedWorker(bus, [TEXT_PIPELINE]).answers(command)
    await bus.tell(command.reply_to, msgspec.structs.replace(answer, request_id="unknown"))
    await bus.tell(command.reply_to, answer)

    assert [False] == (await asking).cached
