"""Metrics that are read when somebody looks."""

import asyncio

import pytest

from bus.memory import MemoryBus
from server.auth.principal import Principal
from server.embeddings import Embeddings
from server.instruments import observe
from server.records import EmbedRequest
from tests.support.embedding import EmbedWorker
from tests.support.jobs import Counted


@pytest.fixture
def counted(bus: MemoryBus, embeddings: Embeddings) -> Counted:
    counted = Counted()
    observe(counted.meter, bus, embeddings)
    return counted


async def test_what_the_cache_knew_and_what_it_did_not_is_counted_by_input(
    counted: Counted, embeddings: Embeddings, worker: EmbedWorker, principal: Principal
) -> None:
    await embeddings.embed(principal, EmbedRequest(texts=["a", "b"]))
    await embeddings.embed(principal, EmbedRequest(texts=["a", "b", "c"]))

    assert 2 == counted.total("towhee.cache.lookups", result="hit")
    assert 3 == counted.total("towhee.cache.lookups", result="miss")


async def test_commands_that_no_worker_has_answered_are_counted_until_it_has(
    counted: Counted, embeddings: Embeddings, worker: EmbedWorker, principal: Principal
) -> None:
    worker.gate.clear()
    asking = asyncio.create_task(embeddings.embed(principal, EmbedRequest(texts=["a"])))
    await asyncio.wait_for(worker.took.wait(), 5)
    assert 1 == counted.total("towhee.interactive.pending")

    worker.gate.set()
    await asking
    assert 0 == counted.total("towhee.interactive.pending")


async def test_messages_that_a_process_could_not_keep_up_with_are_told(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryBus, "num_dropped", 7)

    assert 7 == counted.total("towhee.bus.dropped")
