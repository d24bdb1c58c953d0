"""NATS behind the port."""

from collections.abc import AsyncIterator

import nats
import pytest

from bus.client import NatsBus
from bus.topology import Topology, apply
from tests.bus.contract_bus import LIMITS, POOLS, Bench, BusContract


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
