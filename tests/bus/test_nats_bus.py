"""NATS behind the port."""

from collections.abc import AsyncIterator

import nats
import pytest

from bus import topology
from bus.client import NatsBus
from bus.topology import Topology, apply
from tests.bus.contract_bus import BULK, LIMITS, POOLS, Bench, BusContract, publish_jobs


class TestNatsBus(BusContract):
    @pytest.fixture
    async def bench(self, empty_nats_url: str) -> AsyncIterator[Bench]:
        await apply(empty_nats_url, Topology.for_pools(POOLS, limits=LIMITS))
        stranger = await nats.connect(empty_nats_url)

        async def put_raw(subject: str, raw: bytes) -> None:
            await stranger.request(subject, raw, timeout=5.0)

        async def tell_raw(subject: str, raw: bytes) -> None:
            await stranger.publish(subject, raw)
            await stranger.flush()

        async def count(stream: str) -> int:
            return (await stranger.jsm().stream_info(stream)).state.messages

        bus = await NatsBus.connect(empty_nats_url, name="bench")
        yield Bench(bus=bus, put_raw=put_raw, tell_raw=tell_raw, count=count)
        await bus.close()
        await stranger.close()

    async def test_between_two_fetches_no_pull_is_open(self, bench: Bench, empty_nats_url: str) -> None:
        """So nothing is delivered to a worker that is busy."""
        stranger = await nats.connect(empty_nats_url)
        puller = bench.bus.puller(BULK)

        assert await puller.fetch(limit=5, wait_s=0.05) == []
        await publish_jobs(bench.bus, range(2))
        assert await puller.fetch(limit=5, wait_s=5.0)

        info = await stranger.jsm().consumer_info(topology.JOBS, BULK)
        assert info.num_waiting == 0
        await stranger.close()
