"""What every bus promises. Each test runs against the one in memory and against a real nats-server."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from bus import subjects, topology
from bus.delivery import AlreadySettled
from bus.envelope import Message
from bus.errors import (
    BusError,
    MessageTooLarge,
    NoAnswer,
    PublishFailed,
    StreamFull,
)
from bus.messages import AccessRevoked, ClaimJob, EmbedJob, JobClaimRefused, JobNudged
from bus.port import Bus, Delivery, Puller
from bus.topology import Limits

ACK_WAIT_S = 0.8
MAX_MESSAGES = 6
LIMITS = Limits(ack_wait_s=ACK_WAIT_S, jobs_max_messages=MAX_MESSAGES)
POOLS = ["default", "other"]
BULK = topology.embed_bulk("default")
#: A wait that ends as soon as something comes; well below it nothing may come on its own.
SOON_S = 5.0
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C


@dataclass
class Bench:
    """One bus on the bench, and what only a stranger could do to it."""

    bus: Bus
    put_raw: Callable[[str, bytes], Awaitable[None]]
    tell_raw: Callable[[str, bytes], Awaitable[None]]
    count: Callable[[str], Awaitable[int]]


def job(number: int) -> EmbedJob:
    return EmbedJob(job_id=str(number), publish_number=1)


async def _until_empty(bench: Bench, stream: str) -> None:
    async with asyncio.timeout(SOON_S):
        while await bench.count(stream):  # noqa: ASYNC110 - a stream tells nobody
            await asyncio.sleep(0.005)


def subject_of(number: int) -> str:
    return subjects.embed_job("default", str(number))


async def publish_jobs(bus: Bus, numbers: range) -> None:
    for number in numbers:
        await bus.publish(subject_of(number), job(number))


def numbers_of(deliveries: list[Delivery]) -> list[int]:
    return [int(delivery.message.job_id) for delivery in deliveries if isinstance(delivery.message, EmbedJob)]


async def fetch_one(puller: Puller) -> Delivery:
    deliveries = await puller.fetch(limit=1, wait_s=SOON_S)
    assert len(deliveries) == 1
    return deliveries[0]


async def fetch_all(puller: Puller, number: int) -> list[Delivery]:
    deliveries: list[Delivery] = []
    while len(deliveries) < number:
        fetched = await puller.fetch(limit=number - len(deliveries), wait_s=SOON_S)
        assert fetched, f"{len(deliveries)} of {number} came"
        deliveries += fetched
    return deliveries


async def until_left(bench: Bench, stream: str, number: int) -> None:
    async with asyncio.timeout(10.0):
        while (left := await bench.count(stream)) != number:
            assert left > number
            await asyncio.sleep(0.02)


def in_trace() -> NonRecordingSpan:
    return NonRecordingSpan(
        SpanContext(TRACE_ID, 0xB7AD6B7169203331, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    )


class Inbox:
    """A follower that remembers."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.trace_ids: list[int] = []
        self._arrived = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)
        self.trace_ids.append(trace.get_current_span().get_span_context().trace_id)
        self._arrived.set()

    async def until(self, number: int) -> None:
        async with asyncio.timeout(SOON_S):
            while len(self.messages) < number:
                self._arrived.clear()
                await self._arrived.wait()


class PublishAndPull:
    async def test_a_published_message_is_fetched_once_and_gone_after_the_ack(self, bench: Bench) -> None:
        await bench.bus.publish(subject_of(1), job(1), message_id="1:1")
        puller = bench.bus.puller(BULK)

        delivery = await fetch_one(puller)

        assert numbers_of([delivery]) == [1]
        assert (subject_of(1), 1, "1:1") == (
            delivery.subject,
            delivery.num_delivered,
            delivery.headers["Nats-Msg-Id"],
        )
        await delivery.ack()
        assert await bench.count(topology.JOBS) == 0

    async def test_a_fetch_returns_as_soon_as_there_is_something(self, bench: Bench) -> None:
        waiting = asyncio.create_task(bench.bus.puller(BULK).fetch(limit=10, wait_s=60.0))
        await asyncio.sleep(0)

        await bench.bus.publish(subject_of(1), job(1))

        assert numbers_of(await asyncio.wait_for(waiting, SOON_S)) == [1]

    async def test_a_fetch_returns_nothing_when_the_time_is_up(self, bench: Bench) -> None:
        started = asyncio.get_running_loop().time()

        assert await bench.bus.puller(BULK).fetch(limit=1, wait_s=0.2) == []
        assert asyncio.get_running_loop().time() - started >= 0.19

    async def test_a_fetch_that_does_not_wait_returns_what_is_there(self, bench: Bench) -> None:
        puller = bench.bus.puller(BULK)
        assert await puller.fetch(limit=10, wait_s=0.0) == []
        await publish_jobs(bench.bus, range(3))

        assert numbers_of(await puller.fetch(limit=10, wait_s=0.0)) == [0, 1, 2]

    async def test_a_window_holds_no_more_than_its_limit_and_the_rest_is_for_others(
        self, bench: Bench
    ) -> None:
        await publish_jobs(bench.bus, range(5))

        first = await fetch_all(bench.bus.puller(BULK), 3)
        second = await fetch_all(bench.bus.puller(BULK), 2)

        assert numbers_of(first) == [0, 1, 2]
        assert numbers_of(second) == [3, 4]
        assert {1} == {delivery.num_delivered for delivery in first + second}

    async def test_work_of_another_pool_is_not_delivered(self, bench: Bench) -> None:
        await bench.bus.publish(subjects.embed_job("other", "9"), job(9))
        await publish_jobs(bench.bus, range(1))

        assert numbers_of(await fetch_all(bench.bus.puller(BULK), 1)) == [0]
        assert numbers_of(await fetch_all(bench.bus.puller(topology.embed_bulk("other")), 1)) == [9]

    async def test_a_consumer_outside_the_table_is_refused(self, bench: Bench) -> None:
        with pytest.raises(BusError, match="no consumer is named nonsense"):
            bench.bus.puller("nonsense")

    async def test_a_message_id_is_stored_once(self, bench: Bench) -> None:
        for _ in range(2):
            await bench.bus.publish(subject_of(1), job(1), message_id="1:1")

        assert await bench.count(topology.JOBS) == 1

    async def test_publishes_without_a_message_id_are_all_stored(self, bench: Bench) -> None:
        same = job(1)
        for _ in range(2):
            await bench.bus.publish(subject_of(1), same)

        assert await bench.count(topology.JOBS) == 2

    async def test_an_ack_that_nobody_confirms_removes_the_message_and_settles_once(
        self, bench: Bench
    ) -> None:
        await publish_jobs(bench.bus, range(3))
        deliveries = await bench.bus.puller(BULK).fetch(limit=3, wait_s=SOON_S)

        for delivery in deliveries:
            await delivery.ack(is_confirmed=False)

        await _until_empty(bench, topology.JOBS)
        with pytest.raises(AlreadySettled):
            await deliveries[0].ack(is_confirmed=False)

    async def test_a_bus_that_closes_sends_the_acks_it_has(self, bench: Bench) -> None:
        await publish_jobs(bench.bus, range(3))
        for delivery in await bench.bus.puller(BULK).fetch(limit=3, wait_s=SOON_S):
            await delivery.ack(is_confirmed=False)

        await bench.bus.close()

        await _until_empty(bench, topology.JOBS)

    async def test_a_full_stream_says_so_and_takes_again_after_an_ack(self, bench: Bench) -> None:
        await publish_jobs(bench.bus, range(MAX_MESSAGES))

        with pytest.raises(StreamFull):
            await bench.bus.publish(subject_of(99), job(99))

        await (await fetch_one(bench.bus.puller(BULK))).ack()
        await bench.bus.publish(subject_of(99), job(99))
        assert await bench.count(topology.JOBS) == MAX_MESSAGES

    async def test_a_subject_no_stream_takes_fails_within_the_deadline(self, bench: Bench) -> None:
        with pytest.raises(PublishFailed):
            await asyncio.wait_for(
                bench.bus.publish(subjects.job_nudged("1"), JobNudged(job_id="1", seq=1), deadline_s=0.3),
                SOON_S,
            )

    async def test_a_message_over_the_limit_never_leaves(self, bench: Bench) -> None:
        with pytest.raises(MessageTooLarge):
            await bench.bus.publish(subject_of(1), EmbedJob(job_id="x" * 300_000, publish_number=1))

    async def test_a_message_with_a_time_to_live_is_gone_after_it(self, bench: Bench) -> None:
        lane = subjects.interactive("default")
        await bench.bus.publish(lane, job(1), ttl_s=0.1)
        await bench.bus.publish(lane, job(2), ttl_s=50.0)
        assert await bench.count(topology.INTERACTIVE) == 2

        await until_left(bench, topology.INTERACTIVE, 1)

        puller = bench.bus.puller(topology.embed_interactive("default"))
        assert numbers_of(await fetch_all(puller, 1)) == [2]

    async def test_a_stream_without_times_to_live_refuses_them(self, bench: Bench) -> None:
        with pytest.raises(PublishFailed):
            await bench.bus.publish(subject_of(1), job(1), ttl_s=5.0)


class Settling:
    async def test_a_nak_brings_it_back_at_once(self, bench: Bench) -> None:
        await publish_jobs(bench.bus, range(1))
        puller = bench.bus.puller(BULK)
        await (await fetch_one(puller)).nak()

        assert (await fetch_one(puller)).num_delivered == 2

    async def test_a_nak_with_a_delay_brings_it_back_after_the_delay(self, bench: Bench) -> None:
        await publish_jobs(bench.bus, range(1))
        puller = bench.bus.puller(BULK)
        started = asyncio.get_running_loop().time()
        await (await fetch_one(puller)).nak(delay_s=0.4)

        assert (await fetch_one(puller)).num_delivered == 2
        assert asyncio.get_running_loop().time() - started >= 0.39

    async def test_a_terminated_message_does_not_come_back(self, bench: Bench) -> None:
        await publish_jobs(bench.bus, range(1))

        await (await fetch_one(bench.bus.puller(BULK))).term("hopeless")

        assert await bench.count(topology.JOBS) == 0

    async def test_what_is_not_settled_comes_back_after_the_ack_wait(self, bench: Bench) -> None:
        await publish_jobs(bench.bus, range(1))
        puller = bench.bus.puller(BULK)
        started = asyncio.get_running_loop().time()
        await fetch_one(puller)

        again = await fetch_one(puller)

        assert again.num_delivered == 2
        assert asyncio.get_running_loop().time() - started >= ACK_WAIT_S - 0.05

    async def test_in_progress_asks_for_another_ack_wait(self, bench: Bench) -> None:
        await publish_jobs(bench.bus, range(1))
        delivery = await fetch_one(bench.bus.puller(BULK))
        other = asyncio.create_task(bench.bus.puller(BULK).fetch(limit=1, wait_s=2 * ACK_WAIT_S))

        while not other.done():
            await delivery.in_progress()
            await asyncio.wait({other}, timeout=ACK_WAIT_S / 8)

        assert await other == []
        await delivery.ack()

    async def test_a_delivery_is_settled_once(self, bench: Bench) -> None:
        await publish_jobs(bench.bus, range(1))
        delivery = await fetch_one(bench.bus.puller(BULK))
        await delivery.ack()

        with pytest.raises(AlreadySettled):
            await delivery.nak()

    async def test_a_late_ack_of_an_earlier_delivery_does_no_harm(self, bench: Bench) -> None:
        await publish_jobs(bench.bus, range(1))
        puller = bench.bus.puller(BULK)
        first = await fetch_one(puller)
        second = await fetch_one(puller)
        await second.ack()

        await first.ack()

        assert await bench.count(topology.JOBS) == 0

    async def test_malformed_messages_are_removed_and_never_given_out(self, bench: Bench) -> None:
        await bench.put_raw(subject_of(1), b"no message at all")
        await publish_jobs(bench.bus, range(2, 3))
        puller = bench.bus.puller(BULK)

        async with asyncio.timeout(SOON_S / 2):
            assert numbers_of(await fetch_all(puller, 1)) == [2]
        await until_left(bench, topology.JOBS, 1)

    async def test_messages_of_a_newer_release_are_handed_back_with_a_delay(self, bench: Bench) -> None:
        await bench.put_raw(subject_of(1), msgspec.msgpack.encode({"tag": "embedding.embed_job.v9"}))
        await publish_jobs(bench.bus, range(2, 3))
        puller = bench.bus.puller(BULK)

        async with asyncio.timeout(SOON_S / 2):
            assert numbers_of(await fetch_all(puller, 1)) == [2]
        assert await puller.fetch(limit=1, wait_s=0.2) == []
        assert await bench.count(topology.JOBS) == 2


class Leaving:
    async def test_a_cancelled_fetch_strands_nothing(self, bench: Bench) -> None:
        left = bench.bus.puller(BULK)
        waiting = asyncio.create_task(left.fetch(limit=5, wait_s=60.0))
        await left_waiting(waiting)
        waiting.cancel()
        await asyncio.wait({waiting})

        await publish_jobs(bench.bus, range(3))

        async with asyncio.timeout(ACK_WAIT_S / 2):
            deliveries = await fetch_all(bench.bus.puller(BULK), 3)
        assert sorted(numbers_of(deliveries)) == [0, 1, 2]

    async def test_a_fetch_after_a_cancelled_one_gets_the_work(self, bench: Bench) -> None:
        puller = bench.bus.puller(BULK)
        waiting = asyncio.create_task(puller.fetch(limit=1, wait_s=60.0))
        await left_waiting(waiting)
        waiting.cancel()
        await asyncio.wait({waiting})

        await publish_jobs(bench.bus, range(2))

        async with asyncio.timeout(ACK_WAIT_S / 2):
            assert sorted(numbers_of(await fetch_all(puller, 2))) == [0, 1]

    async def test_a_closed_puller_hands_its_work_over_and_fetches_no_more(self, bench: Bench) -> None:
        left = bench.bus.puller(BULK)
        waiting = asyncio.create_task(left.fetch(limit=5, wait_s=60.0))
        await left_waiting(waiting)

        await left.close()
        await publish_jobs(bench.bus, range(2))

        assert await waiting == []
        assert await left.fetch(limit=1, wait_s=1.0) == []
        async with asyncio.timeout(ACK_WAIT_S / 2):
            deliveries = await fetch_all(bench.bus.puller(BULK), 2)
        assert sorted(numbers_of(deliveries)) == [0, 1]

    async def test_a_puller_may_be_closed_twice_and_before_it_was_used(self, bench: Bench) -> None:
        puller = bench.bus.puller(BULK)

        await puller.close()
        await puller.close()

        assert await puller.fetch(limit=1, wait_s=1.0) == []

    async def test_a_closed_bus_is_not_connected_and_publishes_nothing(self, bench: Bench) -> None:
        assert await bench.bus.is_connected()

        await bench.bus.close()

        assert not await bench.bus.is_connected()
        with pytest.raises(PublishFailed):
            await bench.bus.publish(subject_of(1), job(1), deadline_s=0.2)


async def left_waiting(task: asyncio.Task[list[Delivery]]) -> None:
    """Let a fetch get as far as it gets without any message."""
    await asyncio.wait({task}, timeout=0.1)
    assert not task.done()


class TellAndFollow:
    async def test_followers_hear_what_is_told_in_order(self, bench: Bench) -> None:
        one, other = Inbox(), Inbox()
        await bench.bus.follow(subjects.job_nudged("1"), one)
        await bench.bus.follow(subjects.job_nudged("1"), other)
        nudges = [JobNudged(job_id="1", seq=seq) for seq in range(20)]

        for nudge in nudges:
            await bench.bus.tell(subjects.job_nudged("1"), nudge)

        await one.until(20)
        await other.until(20)
        assert nudges == one.messages == other.messages

    async def test_followers_hear_nothing_else_and_nothing_from_before(self, bench: Bench) -> None:
        inbox = Inbox()
        mine = JobNudged(job_id="1", seq=2)
        await bench.bus.tell(subjects.job_nudged("1"), JobNudged(job_id="1", seq=1))
        await bench.bus.follow(subjects.job_nudged("1"), inbox)

        await bench.bus.tell(subjects.job_nudged("2"), JobNudged(job_id="2", seq=1))
        await bench.bus.tell(subjects.job_nudged("1"), mine)

        await inbox.until(1)
        assert [mine] == inbox.messages

    async def test_a_follower_may_use_a_wildcard(self, bench: Bench) -> None:
        inbox = Inbox()
        await bench.bus.follow(subjects.job_nudged("*"), inbox)

        for number in ("1", "2"):
            await bench.bus.tell(subjects.job_nudged(number), JobNudged(job_id=number, seq=1))

        await inbox.until(2)

    async def test_a_closed_subscription_hears_no_more(self, bench: Bench) -> None:
        closed, still = Inbox(), Inbox()
        subscription = await bench.bus.follow(subjects.ACCESS_REVOKED, closed)
        await bench.bus.follow(subjects.ACCESS_REVOKED, still)
        await subscription.close()

        await bench.bus.tell(subjects.ACCESS_REVOKED, AccessRevoked(credential_id="k", reason="r"))

        await still.until(1)
        assert closed.messages == []

    async def test_closing_waits_for_a_handler_that_runs(self, bench: Bench) -> None:
        started, finish, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def slow(_: Message) -> None:
            started.set()
            await finish.wait()
            finished.set()

        subscription = await bench.bus.follow(subjects.ACCESS_REVOKED, slow)
        await bench.bus.tell(subjects.ACCESS_REVOKED, AccessRevoked(credential_id="k", reason="r"))
        await asyncio.wait_for(started.wait(), SOON_S)
        closing = asyncio.create_task(subscription.close())
        await asyncio.wait({closing}, timeout=0.05)
        assert not closing.done()

        finish.set()

        await asyncio.wait_for(closing, SOON_S)
        assert finished.is_set()

    async def test_a_handler_may_close_its_own_subscription(self, bench: Bench) -> None:
        done = asyncio.Event()

        async def once(_: Message) -> None:
            await subscription.close()
            done.set()

        subscription = await bench.bus.follow(subjects.ACCESS_REVOKED, once)
        await bench.bus.tell(subjects.ACCESS_REVOKED, AccessRevoked(credential_id="k", reason="r"))

        await asyncio.wait_for(done.wait(), SOON_S)

    async def test_a_failing_handler_and_unreadable_messages_do_not_end_it(self, bench: Bench) -> None:
        heard = Inbox()

        async def picky(message: Message) -> None:
            await heard(message)
            if len(heard.messages) == 1:
                raise ValueError("not this one")

        await bench.bus.follow(subjects.job_nudged("1"), picky)
        await bench.tell_raw(subjects.job_nudged("1"), b"garbage")
        await bench.tell_raw(subjects.job_nudged("1"), msgspec.msgpack.encode({"tag": "jobs.nudged.v9"}))

        for seq in range(2):
            await bench.bus.tell(subjects.job_nudged("1"), JobNudged(job_id="1", seq=seq))

        await heard.until(2)


REFUSED = JobClaimRefused(job_id="1", reason="finished")
CLAIM = ClaimJob(job_id="1", worker_id="w")


class AskAndAnswer:
    async def test_a_question_is_answered(self, bench: Bench) -> None:
        heard: list[Message] = []

        async def answer(message: Message) -> Message:
            heard.append(message)
            return REFUSED

        await bench.bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)

        assert REFUSED == await bench.bus.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=SOON_S)
        assert [CLAIM] == heard

    async def test_whoever_is_cancelled_as_the_answer_comes_is_cancelled(self, bench: Bench) -> None:
        """At whichever turn of the loop: a loop that asks again and again would never end."""

        async def answer(_: Message) -> Message:
            return REFUSED

        await bench.bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)
        for turns in range(20):
            asking = asyncio.create_task(bench.bus.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=SOON_S))
            for _ in range(turns):
                await asyncio.sleep(0)
            was_answered = asking.done()

            asking.cancel()

            await asyncio.wait({asking})
            assert was_answered or asking.cancelled(), f"after {turns} turns"

    async def test_a_question_goes_to_one_member_of_the_group(self, bench: Bench) -> None:
        heard: list[int] = []
        for member in range(3):

            async def answer(_: Message, member: int = member) -> Message:
                heard.append(member)
                return REFUSED

            await bench.bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)

        for _ in range(30):
            await bench.bus.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=SOON_S)

        assert len(heard) == 30
        assert set(heard) == {0, 1, 2}

    async def test_questions_are_answered_side_by_side(self, bench: Bench) -> None:
        both = asyncio.Barrier(2)

        async def answer(_: Message) -> Message:
            await both.wait()
            return REFUSED

        await bench.bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)
        questions = [bench.bus.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=SOON_S) for _ in range(2)]

        assert [REFUSED, REFUSED] == await asyncio.gather(*questions)

    async def test_without_anybody_there_the_asker_hears_so_at_once(self, bench: Bench) -> None:
        async with asyncio.timeout(SOON_S):
            with pytest.raises(NoAnswer):
                await bench.bus.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=60.0)

    async def test_an_answer_that_takes_too_long_is_none(self, bench: Bench) -> None:
        never = asyncio.Event()

        async def answer(_: Message) -> Message:
            await never.wait()
            return REFUSED

        subscription = await bench.bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)

        with pytest.raises(NoAnswer):
            await bench.bus.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=0.1)
        never.set()
        await subscription.close()

    async def test_a_responder_that_fails_is_no_answer_at_once(self, bench: Bench) -> None:
        async def answer(_: Message) -> Message:
            raise ValueError("no")

        await bench.bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)

        async with asyncio.timeout(SOON_S):
            with pytest.raises(NoAnswer):
                await bench.bus.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=60.0)

    async def test_what_no_one_asked_is_not_answered_and_does_not_end_the_answering(
        self, bench: Bench
    ) -> None:
        async def answer(_: Message) -> Message:
            return REFUSED

        await bench.bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)
        await bench.bus.tell(subjects.JOB_CLAIM, CLAIM)
        await bench.tell_raw(subjects.JOB_CLAIM, b"garbage")

        assert REFUSED == await bench.bus.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=SOON_S)

    async def test_a_closed_member_is_asked_no_more(self, bench: Bench) -> None:
        async def answer(_: Message) -> Message:
            return REFUSED

        subscription = await bench.bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)
        await subscription.close()

        with pytest.raises(NoAnswer):
            await bench.bus.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=SOON_S)


class Traces:
    async def test_a_trace_goes_through_a_stream(self, bench: Bench) -> None:
        with trace.use_span(in_trace()):
            await bench.bus.publish(subject_of(1), job(1))

        delivery = await fetch_one(bench.bus.puller(BULK))

        assert f"{TRACE_ID:032x}" in delivery.headers["traceparent"]

    async def test_a_trace_goes_to_followers(self, bench: Bench) -> None:
        inbox = Inbox()
        await bench.bus.follow(subjects.job_nudged("1"), inbox)

        with trace.use_span(in_trace()):
            await bench.bus.tell(subjects.job_nudged("1"), JobNudged(job_id="1", seq=1))
        await inbox.until(1)
        await bench.bus.tell(subjects.job_nudged("1"), JobNudged(job_id="1", seq=2))
        await inbox.until(2)

        assert [TRACE_ID, 0] == inbox.trace_ids

    async def test_a_trace_goes_to_who_answers(self, bench: Bench) -> None:
        trace_ids: list[int] = []

        async def answer(_: Message) -> Message:
            trace_ids.append(trace.get_current_span().get_span_context().trace_id)
            return REFUSED

        await bench.bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)
        with trace.use_span(in_trace()):
            await bench.bus.ask(subjects.JOB_CLAIM, CLAIM, timeout_s=SOON_S)

        assert [TRACE_ID] == trace_ids


class BusContract(PublishAndPull, Settling, Leaving, TellAndFollow, AskAndAnswer, Traces):
    """All of it."""
