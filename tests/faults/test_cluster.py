"""A cluster that has no leader yet."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from bus.topology import Limits, Topology, apply
from tests.faults.harness.cluster import NUM_NODES, NatsCluster
from tests.faults.harness.members import Member


async def test_the_topology_waits_for_a_cluster_that_has_no_leader_yet(tmp_path: Path) -> None:
    """Without a leader questions are not refused but lost."""
    cluster = NatsCluster(tmp_path)
    members = [Member(cluster.part(number, tmp_path / f"{number}.log")) for number in range(NUM_NODES)]
    topology = Topology.for_pools(["default"], limits=Limits(num_replicas=NUM_NODES))
    async with AsyncExitStack() as stack:
        for member in members:
            stack.push_async_callback(member.kill)
        await members[0].start()
        applying = asyncio.create_task(apply(cluster.url, topology))
        await asyncio.wait({applying}, timeout=1.0)
        assert not applying.done()

        await asyncio.gather(*(member.start() for member in members[1:]))

        changes = await asyncio.wait_for(applying, 30)
        assert "create stream JOBS (file, work queue, job.embed.>)" in changes
        assert [] == await apply(cluster.url, topology)
