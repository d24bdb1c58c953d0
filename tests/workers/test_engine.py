"""From inputs to vectors: order, neighbours, deadlines, lanes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.workers.toys import DIMENSION, StartEngine, ToyPipeline, rows_of
from workers.embed.batching import BatchLimits
from workers.embed.engine import Engine, EngineSettings
from workers.embed.items import (
    BytesSource,
    EmbedRequest,
    Expired,
    Lane,
    PipelineNotHosted,
    Refusal,
    Source,
    TextSource,
)
from workers.towhee_door import TowheeDoor

ONE_A_BATCH = EngineSettings(limits=BatchLimits(tokens=1))


@pytest.fixture
def toy(door: TowheeDoor) -> ToyPipeline:
    return ToyPipeline(door)


@pytest.fixture
async def engine(start_engine: StartEngine, toy: ToyPipeline) -> Engine:
    return start_engine({"toy": toy}, EngineSettings())


def request(
    texts: Sequence[str], lane: Lane = Lane.INTERACTIVE, deadline: float | None = None
) -> EmbedRequest:
    sources: list[Source] = [TextSource(text) for text in texts]
    return EmbedRequest(pipeline="toy", sources=sources, lane=lane, deadline=deadline)


def file(read: Callable[[], Awaitable[bytes]]) -> EmbedRequest:
    return EmbedRequest(pipeline="toy", sources=[BytesSource("text/plain", read)], lane=Lane.BULK)


async def entered(toy: ToyPipeline) -> None:
    """Wait until the device has begun a batch."""
    assert await asyncio.to_thread(toy.entered.acquire, timeout=10)


async def test_rows_come_in_the_order_of_the_inputs(engine: Engine) -> None:
    texts = ["a", "bb" * 100, "ccc", "dd" * 30, "e…"]

    embedded = await engine.embed(request(texts))

    assert np.array_equal(rows_of(texts), embedded.vectors)
    assert [1, 200, 3, 60, 2] == embedded.tokens
    assert [False, False, False, False, True] == embedded.truncated
    assert {} == embedded.refusals
    assert all(seconds > 0 for seconds in embedded.compute_s)


async def test_a_request_without_inputs_is_answered(engine: Engine) -> None:
    embedded = await engine.embed(request([]))
    assert (0, DIMENSION) == embedded.vectors.shape


async def test_a_list_reaches_the_operator_as_one_batch(engine: Engine, toy: ToyPipeline) -> None:
    await engine.embed(request(["one", "two", "six"]))
    assert [["one", "two", "six"]] == toy.batches


async def test_an_input_that_can_not_be_prepared_is_refused_alone(engine: Engine) -> None:
    embedded = await engine.embed(request(["a", "?b", "c"]))

    assert [1] == list(embedded.refusals)
    assert "no questions" == embedded.refusals[1].message
    assert np.array_equal([1, 0, 1], embedded.vectors[:, 0])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["a", "bb", "poison", "poison 2"]), min_size=1, max_size=30))
async def test_a_bad_input_fails_alone(engine: Engine, texts: list[str]) -> None:
    """A batch that fails is halved until the inputs at fault stand alone."""
    async with asyncio.timeout(10):
        embedded = await engine.embed(request(texts))

    bad = [index for index, text in enumerate(texts) if "poison" in text]
    good = [index for index in range(len(texts)) if index not in bad]
    assert bad == sorted(embedded.refusals)
    assert {"INTERNAL"} >= {refusal.code for refusal in embedded.refusals.values()}
    assert not embedded.vectors[bad].any()
    assert np.array_equal(
        rows_of([texts[index] for index in good]) if good else [], embedded.vectors[good].tolist()
    )


async def test_a_row_that_is_not_finite_fails_alone(start_engine: StartEngine, door: TowheeDoor) -> None:
    def embed(texts: Sequence[str]) -> object:
        return [[np.nan if text == "b" else 1.0] * DIMENSION for text in texts]

    engine = start_engine({"toy": ToyPipeline(door, embed=embed)}, EngineSettings())

    embedded = await engine.embed(request(["a", "b", "c"]))

    assert [1] == list(embedded.refusals)
    assert np.array_equal([1, 0, 1], embedded.vectors[:, 0])


async def test_an_operator_that_returns_too_few_rows_fails_the_inputs_not_the_worker(
    start_engine: StartEngine, door: TowheeDoor
) -> None:
    engine = start_engine(
        {"toy": ToyPipeline(door, embed=lambda _: [[1.0] * DIMENSION] * 5)}, EngineSettings()
    )
    embedded = await engine.embed(request(["a", "b"]))
    assert [0, 1] == sorted(embedded.refusals)


async def test_requests_that_wait_for_a_busy_device_share_a_batch(engine: Engine, toy: ToyPipeline) -> None:
    toy.gate.clear()
    first = asyncio.create_task(engine.embed(request(["first"])))
    await entered(toy)
    rest = [asyncio.create_task(engine.embed(request([text]))) for text in ("a", "b", "c")]
    await asyncio.sleep(0)

    toy.gate.set()
    await asyncio.gather(first, *rest)

    assert [["first"], ["a", "b", "c"]] == toy.batches


async def test_one_full_batch_waits_at_the_device_while_another_computes(
    start_engine: StartEngine, toy: ToyPipeline
) -> None:
    """The third is only cut when the first is done: what comes later may still go before it."""
    engine = start_engine({"toy": toy}, ONE_A_BATCH)
    toy.gate.clear()
    bulk = [asyncio.create_task(engine.embed(request([text], Lane.BULK))) for text in ("a", "b", "c")]
    await entered(toy)
    urgent = asyncio.create_task(engine.embed(request(["d"])))
    await asyncio.sleep(0)

    toy.gate.set()
    await asyncio.gather(*bulk, urgent)

    assert [["a"], ["b"], ["d"], ["c"]] == toy.batches


async def test_work_is_dropped_when_its_deadline_passes_in_the_queue(
    engine: Engine, toy: ToyPipeline
) -> None:
    toy.gate.clear()
    first = asyncio.create_task(engine.embed(request(["first"])))
    await entered(toy)
    late = asyncio.create_task(engine.embed(request(["late"], deadline=time.monotonic())))
    await asyncio.sleep(0)

    toy.gate.set()

    with pytest.raises(Expired):
        await late
    await first
    assert [["first"]] == toy.batches


async def test_a_cancelled_call_takes_its_waiting_inputs_with_it(engine: Engine, toy: ToyPipeline) -> None:
    toy.gate.clear()
    first = asyncio.create_task(engine.embed(request(["first"])))
    await entered(toy)
    gone = asyncio.create_task(engine.embed(request(["gone"])))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone

    toy.gate.set()
    await first
    await engine.embed(request(["next"]))

    assert [["first"], ["next"]] == toy.batches


async def test_an_unknown_pipeline_is_not_hosted(engine: Engine) -> None:
    with pytest.raises(PipelineNotHosted):
        await engine.embed(EmbedRequest(pipeline="nope", sources=[], lane=Lane.BULK))


async def test_a_file_that_is_gone_is_refused_alone(engine: Engine) -> None:
    async def read() -> bytes:
        raise Refusal("NOT_FOUND", "gone")

    assert "gone" == (await engine.embed(file(read))).refusals[0].message


async def test_an_error_of_the_store_fails_the_request_with_that_error(engine: Engine) -> None:
    async def read() -> bytes:
        raise ConnectionError("the store is away")

    with pytest.raises(ConnectionError):
        await engine.embed(file(read))


async def test_few_files_are_in_memory_at_a_time(start_engine: StartEngine, toy: ToyPipeline) -> None:
    """Two threads decode, so at most three files are held."""
    engine = start_engine({"toy": toy}, EngineSettings(prepare_threads=2))
    reading = peak = 0

    async def read() -> bytes:
        nonlocal reading, peak
        reading += 1
        peak = max(peak, reading)
        await asyncio.sleep(0)
        reading -= 1
        return b"text"

    sources: list[Source] = [BytesSource("text/plain", read)] * 20
    embedded = await engine.embed(EmbedRequest(pipeline="toy", sources=sources, lane=Lane.BULK))

    assert 20 == len(embedded.vectors)
    assert 3 == peak


async def test_a_silent_device_is_noticed(engine: Engine, toy: ToyPipeline) -> None:
    assert 0.0 == engine.busy_s
    toy.gate.clear()
    task = asyncio.create_task(engine.embed(request(["a"])))
    await entered(toy)
    assert engine.busy_s > 0
    toy.gate.set()
    await task
    assert 0.0 == engine.busy_s
