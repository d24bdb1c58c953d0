"""A server says when the bus has lost the streams it needs, and what puts them back."""

from pathlib import Path

from bus import subjects
from bus.client import NatsBus
from bus.memory import MemoryBus
from bus.messages import PipelinesAnnounced
from bus.topology import Topology, apply
from deploy.local.nats import LocalNats
from server.database import Database
from server.health import Health, missing_streams
from server.pipelines import Pipelines
from tests.support.bus import QUIET
from tests.support.embedding import TEXT_PIPELINE
from tests.support.waiting import until_true


async def test_a_stream_that_a_restart_has_emptied_out_is_named_until_it_is_applied_again(
    database: Database, tmp_path: Path
) -> None:
    """NATS that is not ours to supervise comes back without the interactive lane, which was in memory."""
    local, table = LocalNats(tmp_path), Topology.for_pools(["default"])
    child = await local.start(options=QUIET)
    await apply(local.url, table)
    bus = await NatsBus.connect(local.url, name="server")
    pipelines = Pipelines(database, bus)
    await pipelines.start()
    await bus.tell(
        subjects.PIPELINES_ANNOUNCED, PipelinesAnnounced(worker_id="w1", pipelines=[TEXT_PIPELINE])
    )
    await until_true(pipelines.list_available)
    health = Health({"streams": missing_streams(bus, pipelines)})
    assert {"streams": "ok"} == await health.report()

    await child.stop(0.0)
    assert "ok" != (await health.report())["streams"]
    child = await local.start(options=QUIET)
    await until_true(bus.is_connected)

    expected = "the bus has lost, or never had, embed_interactive_default: run towhee-api bus apply"
    assert {"streams": expected} == await health.report()
    assert ["create stream INTERACTIVE", "create consumer embed_interactive_default"] == [
        line.partition(" (")[0].partition(" of ")[0] for line in await apply(local.url, table)
    ]
    assert {"streams": "ok"} == await health.report()
    await pipelines.close()
    await bus.close()
    await child.stop(5.0)


async def test_a_server_that_has_heard_of_no_worker_asks_for_its_own_consumers_alone(
    database: Database, bus: MemoryBus
) -> None:
    assert {"streams": "ok"} == await Health(
        {"streams": missing_streams(bus, Pipelines(database, bus))}
    ).report()
    bare = MemoryBus(Topology(streams=(), consumers=()))

    report = await Health({"streams": missing_streams(bare, Pipelines(database, bare))}).report()

    assert (
        "the bus has lost, or never had, projection, given_up: run towhee-api bus apply" == report["streams"]
    )
