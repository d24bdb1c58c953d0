"""A cluster that is not whole yet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bus.topology import Limits, Topology, apply
from tests.faults.harness.cluster import NUM_NODES, NatsCluster
from tests.faults.harness.members import Member

TOPOLOGY = Topology.for_pools(["default"], limits=Limits(num_replicas=NUM_NODES))


@pytest.fixture
def cluster(tmp_path: Path) -> NatsCluster:
    return NatsCluster(tmp_path)


@pytest.fixture
async def members(cluster: NatsCluster, tmp_path: Path) -> AsyncIterator[list[Member]]:
    """The nodes, none of which has started."""
    members = [Member(cluster.part(number, tmp_path / f"{number}.log")) for number in range(NUM_NODES)]
    async with AsyncExitStack() as stack:
        for member in members:
            stack.push_async_callback(member.kill)
        yield members


@pytest.mark.parametrize("num_there", [1, 2], ids=["without a leader", "with a leader"])
async def test_the_topology_waits_for_the_other_nodes(
    num_there: int, cluster: NatsCluster, members: list[Member]
) -> None:
    """Without a leader questions are not refused but lost; with one, there are no peers for all copies."""
    await asyncio.gather(*(member.start() for member in members[:num_there]))
    applying = asyncio.create_task(apply(cluster.url, TOPOLOGY))
    await asyncio.wait({applying}, timeout=4.0)
    assert not applying.done()

    await asyncio.gather(*(member.start() for member in members[num_there:]))

    changes = await asyncio.wait_for(applying, 30)
    assert "create stream JOBS (file, work queue, job.embed.>)" in changes
    assert [] == await apply(cluster.url, TOPOLOGY)
