"""What is given up is kept with why, on the bus in memory and on a real nats-server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import msgspec
import nats
import pytest

import bus.delivery
from bus import codec, subjects, topology
from bus.client import NatsBus
from bus.dead_letters import DeadLetter, Death, NoSuchLetter
from bus.memory import MemoryBus
from bus.messages import EmbedJob
from bus.port import Bus, Delivery
from bus.topology import Limits, Topology, apply

BULK = topology.embed_bulk("default")
TABLE = Topology.for_pools(["default"], limits=Limits(ack_wait_s=0.5, jobs_max_deliver=2))
JOB = EmbedJob(job_id="1", publish_number=1)
SUBJECT = subjects.embed_job("default", "1")
DEATH = Death(code="INTERNAL", reason="Input 7 has\nended \N{LION FACE} it.", attempt=4)


@dataclass
class Bench:
    """A bus, and what only a stranger could do to it."""

    bus: Bus
    put_raw: Callable[[str, bytes], Awaitable[None]]
    #: Let a short time pass.
    elapse: Callable[[float], Awaitable[None]]
    count: Callable[[str], Awaitable[int]]


@pytest.fixture(params=["memory", "nats"])
async def bench(request: pytest.FixtureRequest, empty_nats_url: str) -> AsyncIterator[Bench]:
    if request.param == "memory":
        memory = MemoryBus(TABLE)

        async def put(subject: str, raw: bytes) -> None:
            memory.put_raw(subject, raw)

        async def advance(seconds: float) -> None:
            memory.advance(seconds)
            await asyncio.sleep(0)

        async def count_here(stream: str) -> int:
            return memory.count(stream)

        yield Bench(memory, put, advance, count_here)
        await memory.close()
        return
    await apply(empty_nats_url, TABLE)
    stranger = await nats.connect(empty_nats_url)
    connected = await NatsBus.connect(empty_nats_url, name="test")

    async def publish(subject: str, raw: bytes) -> None:
        await stranger.jetstream().publish(subject, raw)

    async def count(stream: str) -> int:
        return (await stranger.jsm().stream_info(stream)).state.messages

    yield Bench(connected, publish, asyncio.sleep, count)
    await connected.close()
    await stranger.close()


async def _fetch(bench: Bench) -> Delivery:
    [delivery] = await bench.bus.puller(BULK).fetch(limit=1, wait_s=5.0)
    return delivery


async def _move(bench: Bench, *, wait_s: float = 0.1) -> int:
    return await asyncio.wait_for(bench.bus.dead_letters.move(wait_s=wait_s), 5)


async def _letters(bench: Bench, number: int) -> list[DeadLetter]:
    async with asyncio.timeout(10):
        while len(letters := await bench.bus.dead_letters.read()) < number:
            await _move(bench)
            await bench.elapse(0.02)
    return letters


async def _is_empty(bench: Bench) -> bool:
    return [] == await bench.bus.puller(BULK).fetch(limit=1, wait_s=0.7)


async def test_a_dead_letter_has_the_bytes_the_headers_and_the_reason(bench: Bench) -> None:
    await bench.bus.publish(SUBJECT, JOB, message_id="1:1")
    delivery = await _fetch(bench)
    headers = dict(delivery.headers)

    await delivery.dead_letter(DEATH)

    [letter] = await bench.bus.dead_letters.read()
    assert (SUBJECT, JOB) == (letter.subject, codec.decode(letter.raw))
    assert ("INTERNAL", "Input 7 has ended \\U0001f981 it.") == (letter.code, letter.reason)
    assert (4, 1) == (letter.attempt, letter.num_delivered)
    assert headers == letter.headers
    assert "1:1" == letter.headers["Nats-Msg-Id"]
    assert letter == msgspec.structs.replace(await bench.bus.dead_letters.get(letter.id), at=letter.at)
    assert await _is_empty(bench)
    # The server has told that it was terminated; it is a dead letter already.
    assert 0 == await _move(bench)
    assert 1 == len(await bench.bus.dead_letters.read())


async def test_a_letter_is_sent_again_as_a_new_message_and_dropped(bench: Bench) -> None:
    await bench.bus.publish(SUBJECT, JOB, message_id="1:1")
    await (await _fetch(bench)).dead_letter(DEATH)
    [letter] = await bench.bus.dead_letters.read()

    await bench.bus.dead_letters.send_again(letter)
    for _ in range(2):
        await bench.bus.dead_letters.drop(letter.id)

    assert JOB == (await _fetch(bench)).message
    assert [] == await bench.bus.dead_letters.read()
    for letter_id in (letter.id, 0, 999):
        with pytest.raises(NoSuchLetter):
            await bench.bus.dead_letters.get(letter_id)


async def test_letters_are_read_in_pages(bench: Bench) -> None:
    for number in range(5):
        await bench.bus.publish(SUBJECT, EmbedJob(job_id=str(number), publish_number=1))
        await (await _fetch(bench)).dead_letter(DEATH)

    first = await bench.bus.dead_letters.read(limit=3)
    rest = await bench.bus.dead_letters.read(after=first[-1].id)

    jobs = [codec.decode(letter.raw) for letter in (*first, *rest)]
    assert ["0", "1", "2", "3", "4"] == [job.job_id for job in jobs if isinstance(job, EmbedJob)]


async def test_what_reaches_its_limit_of_deliveries_is_moved(bench: Bench) -> None:
    await bench.bus.publish(SUBJECT, JOB, message_id="1:1")
    for _ in range(2):
        await (await _fetch(bench)).nak()
    # The server tells of a limit when somebody asks for more.
    assert await _is_empty(bench)

    [letter] = await _letters(bench, 1)

    assert ("max-deliveries", SUBJECT, 2) == (letter.code, letter.subject, letter.num_delivered)
    assert (JOB, "1:1") == (codec.decode(letter.raw), letter.headers["Nats-Msg-Id"])
    assert 0 == await bench.count(topology.JOBS)


async def test_a_mover_that_was_away_finds_what_was_told_meanwhile_and_moves_it_once(bench: Bench) -> None:
    for number in range(3):
        await bench.bus.publish(SUBJECT, EmbedJob(job_id=str(number), publish_number=1))
    for _ in range(2):
        for delivery in [await _fetch(bench) for _ in range(3)]:
            await delivery.nak()
    assert await _is_empty(bench)

    counts = await asyncio.gather(*(_move(bench, wait_s=0.5) for _ in range(3)))

    assert 3 == len(await _letters(bench, 3))
    assert sum(counts) <= 3
    if isinstance(bench.bus, NatsBus):
        # What was told is not told again for ever.
        async with asyncio.timeout(5):
            while await bench.count(topology.ADVISORIES):
                await _move(bench)


async def test_a_tag_that_stays_unknown_waits_twice_and_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus.delivery, "UNKNOWN_DELAY_S", 0.3)
    table = msgspec.msgpack.encode({"tag": "embedding.embed_job.v9"})
    consumers = tuple(msgspec.structs.replace(spec, max_deliver=-1) for spec in TABLE.consumers)
    if isinstance(bench.bus, MemoryBus):
        bench.bus._consumers = {spec.name: spec for spec in consumers}
    else:
        url = bench.bus._connection._url  # type: ignore[attr-defined]
        await apply(url, msgspec.structs.replace(TABLE, consumers=consumers))
    await bench.put_raw(SUBJECT, table)
    puller = bench.bus.puller(BULK)

    for _ in range(2):
        assert [] == await puller.fetch(limit=1, wait_s=0.1)
        assert [] == await bench.bus.dead_letters.read()
        await bench.elapse(0.35)
    assert [] == await puller.fetch(limit=1, wait_s=0.2)

    [letter] = await _letters(bench, 1)
    assert ("unknown-schema", 3, table) == (letter.code, letter.num_delivered, letter.raw)
    assert "embedding.embed_job.v9" in letter.reason


async def test_what_is_no_message_is_kept_at_once(bench: Bench) -> None:
    await bench.put_raw(SUBJECT, b"no message at all")

    assert await _is_empty(bench)

    [letter] = await _letters(bench, 1)
    assert ("malformed", b"no message at all", 1) == (letter.code, letter.raw, letter.num_delivered)
