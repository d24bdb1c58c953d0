"""Deliveries are held while somebody works on them, and questions have typed answers."""

import asyncio
import logging
from collections.abc import Mapping

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from bus import requests, subjects, topology
from bus.consumer import holding, processing
from bus.dead_letters import Death
from bus.envelope import Message
from bus.errors import AnswerLate, NoAnswer, NotSettled, UnexpectedAnswer
from bus.memory import MemoryBus
from bus.messages import (
    ClaimJob,
    EmbedJob,
    HeartbeatAnswered,
    HeartbeatJob,
    JobClaimed,
    JobClaimRefused,
    JobNudged,
    JobSpec,
)
from bus.port import Delivery

BULK = topology.embed_bulk("default")
JOB = subjects.embed_job("default", "1")


async def _one_delivery(bus: MemoryBus) -> Delivery:
    await bus.publish(JOB, EmbedJob(job_id="1", publish_number=1))
    (delivery,) = await bus.puller(BULK).fetch(limit=1, wait_s=1.0)
    return delivery


class Beaten:
    """A delivery that counts its heartbeats, and fails the first one."""

    message = EmbedJob(job_id="1", publish_number=1)
    subject = JOB
    headers: Mapping[str, str] = {}
    raw = b""
    num_delivered = 1

    def __init__(self) -> None:
        self.num_beats = 0
        self.twice = asyncio.Event()

    async def in_progress(self) -> None:
        self.num_beats += 1
        if self.num_beats == 1:
            raise NotSettled("not this time")
        self.twice.set()

    async def ack(self, *, is_confirmed: bool = True) -> None: ...
    async def nak(self, *, delay_s: float = 0.0) -> None: ...
    async def term(self, reason: str) -> None: ...

    async def dead_letter(self, death: Death) -> None: ...


async def test_a_held_delivery_beats_on_over_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    delivery = Beaten()

    with caplog.at_level(logging.WARNING):
        async with holding(delivery, 0.005):
            await asyncio.wait_for(delivery.twice.wait(), 5.0)

    assert "could not be held: not this time" in caplog.text
    beats = delivery.num_beats
    await asyncio.sleep(0)
    assert beats == delivery.num_beats


async def test_holding_ends_with_its_body_whatever_ends_it(bus: MemoryBus) -> None:
    delivery = await _one_delivery(bus)
    before = asyncio.all_tasks()

    with pytest.raises(ValueError, match="work failed"):
        async with holding(delivery, 60.0):
            raise ValueError("work failed")

    assert before == asyncio.all_tasks()


def _context(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


async def test_processing_is_a_child_of_sending(bus: MemoryBus, spans: InMemorySpanExporter) -> None:
    delivery = await _one_delivery(bus)

    with processing(delivery):
        pass

    send, process = spans.get_finished_spans()
    assert ("send job.embed", "process job.embed") == (send.name, process.name)
    assert (SpanKind.PRODUCER, SpanKind.CONSUMER) == (send.kind, process.kind)
    assert process.parent is not None
    assert _context(send) == (process.parent.trace_id, process.parent.span_id)
    assert process.attributes is not None
    assert process.attributes["messaging.nats.num_delivered"] == 1


async def test_no_id_is_in_any_span(bus: MemoryBus, spans: InMemorySpanExporter) -> None:
    """A name or attribute for each job would be a new time series for each job."""
    await bus.publish(subjects.job_event("job-77"), EmbedJob(job_id="job-77", publish_number=1))
    await bus.publish(subjects.interactive("pool-77"), EmbedJob(job_id="job-77", publish_number=1))

    for span in spans.get_finished_spans():
        assert "77" not in f"{span.name} {dict(span.attributes or {})}"


async def test_asking_and_answering_are_one_trace(bus: MemoryBus, spans: InMemorySpanExporter) -> None:
    async def answer(_: Message) -> Message:
        return JobClaimRefused(job_id="1", reason="finished")

    await bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)
    await requests.claim(bus, "1", worker_id="w")

    names = {span.name for span in spans.get_finished_spans()}
    assert {"send job.ask.claim", "process job.ask.claim"} == names
    assert 1 == len({_context(span)[0] for span in spans.get_finished_spans()})


CLAIMED = JobClaimed(
    job_id="1", attempt=2, spec=JobSpec(pipeline="p", inputs_key="k", item_count=3, chunk_size=2)
)


@pytest.mark.parametrize("expected", [CLAIMED, JobClaimRefused(job_id="1", reason="cancelled")])
async def test_a_claim_is_answered(bus: MemoryBus, expected: JobClaimed | JobClaimRefused) -> None:
    async def answer(question: Message) -> Message:
        assert isinstance(question, ClaimJob)
        assert ("1", "w") == (question.job_id, question.worker_id)
        return expected

    await bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)

    assert expected == await requests.claim(bus, "1", worker_id="w")


async def test_a_claim_whose_answer_is_late_is_the_same_question_again(bus: MemoryBus) -> None:
    asked: list[Message] = []
    is_over = asyncio.Event()

    async def answer(question: Message) -> Message:
        asked.append(question)
        if len(asked) < requests.CLAIM_TRIES:
            await is_over.wait()
        return CLAIMED

    await bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)

    assert CLAIMED == await requests.claim(bus, "1", worker_id="w", timeout_s=0.05)
    assert [asked[0]] * requests.CLAIM_TRIES == asked
    is_over.set()


async def test_a_claim_is_not_asked_for_ever(bus: MemoryBus) -> None:
    asked: list[Message] = []
    is_over = asyncio.Event()

    async def answer(question: Message) -> Message:
        asked.append(question)
        await is_over.wait()
        return CLAIMED

    await bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)

    with pytest.raises(AnswerLate):
        await requests.claim(bus, "1", worker_id="w", timeout_s=0.02)
    assert requests.CLAIM_TRIES == len(asked)
    is_over.set()


async def test_a_heartbeat_is_answered(bus: MemoryBus) -> None:
    expected = HeartbeatAnswered(job_id="1", verdict="cancel")

    async def answer(question: Message) -> Message:
        assert isinstance(question, HeartbeatJob)
        assert ("1", 2, "w") == (question.job_id, question.attempt, question.worker_id)
        return expected

    await bus.answer(subjects.JOB_HEARTBEAT, answer, group=subjects.SERVERS)

    assert expected == await requests.heartbeat(bus, "1", attempt=2, worker_id="w")


async def test_an_answer_about_something_else_is_refused(bus: MemoryBus) -> None:
    async def answer(_: Message) -> Message:
        return JobNudged(job_id="1", seq=1)

    await bus.answer(subjects.JOB_CLAIM, answer, group=subjects.SERVERS)
    await bus.answer(subjects.JOB_HEARTBEAT, answer, group=subjects.SERVERS)

    with pytest.raises(UnexpectedAnswer, match="JobNudged"):
        await requests.claim(bus, "1", worker_id="w")
    with pytest.raises(UnexpectedAnswer, match="JobNudged"):
        await requests.heartbeat(bus, "1", attempt=1, worker_id="w")


async def test_a_claim_without_a_server_has_no_answer(bus: MemoryBus) -> None:
    with pytest.raises(NoAnswer):
        await requests.claim(bus, "1", worker_id="w", timeout_s=0.2)
