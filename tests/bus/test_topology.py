"""The table of streams and consumers, and putting it in place."""

from collections.abc import Sequence

import msgspec
import nats
import pytest

from bus import subjects, topology
from bus.connection import Connection
from bus.errors import BusError, BusUnavailable, NotPermitted, TopologyRefused
from bus.topology import Limits, Topology, apply
from deploy.local.nats import find_free_port

POOLS = ["default", "gpu"]


def _changed(table: Topology, name: str, **changes: object) -> Topology:
    """Return the table with one stream or consumer changed."""

    def change(specs: Sequence[msgspec.Struct]) -> tuple[msgspec.Struct, ...]:
        return tuple(
            msgspec.structs.replace(spec, **changes) if getattr(spec, "name", None) == name else spec
            for spec in specs
        )

    return msgspec.structs.replace(table, streams=change(table.streams), consumers=change(table.consumers))


def test_every_consumer_reads_a_stream_of_the_table_and_a_part_of_its_subjects() -> None:
    table = Topology.for_pools(POOLS)
    streams = {stream.name: (stream.subject, *stream.more_subjects) for stream in table.streams}
    whole = {stream.name: stream.subject for stream in table.streams if stream.more_subjects}

    for consumer in table.consumers:
        assert topology.stream_of(consumer.name) == consumer.stream
        wanted = consumer.filter_subject or whole[consumer.stream]
        example = wanted.replace("*", "x").replace(">", "x")
        assert any(subjects.matches(subject, example) for subject in streams[consumer.stream])


def test_no_two_consumers_of_a_stream_read_the_same_subject() -> None:
    """A work queue refuses them."""
    consumers = Topology.for_pools(POOLS).consumers

    filters = [(consumer.stream, consumer.filter_subject) for consumer in consumers]
    assert len(filters) == len(set(filters))


def test_a_dead_worker_is_noticed_within_12_seconds() -> None:
    assert {12.0} == {consumer.ack_wait_s for consumer in Topology.for_pools(POOLS).consumers}


def test_a_name_that_is_no_consumer_has_no_stream() -> None:
    with pytest.raises(BusError, match="no consumer is named nonsense"):
        topology.stream_of("nonsense")


async def test_apply_creates_everything_and_says_so(empty_nats_url: str) -> None:
    lines = await apply(empty_nats_url, Topology.for_pools(["default"]))

    assert lines == [
        "create stream JOBS (file, work queue, job.embed.>)",
        "create stream WORK (file, work queue, job.train.>, job.data.>)",
        "create stream INTERACTIVE (memory, work queue, embed.interactive.>)",
        "create stream JOB_EVENTS (file, work queue, event.job.>)",
        "create stream DLQ (file, kept until too old, dead.>)",
        f"create stream ADVISORIES (file, work queue, {subjects.LIMITS_REACHED}, {subjects.TERMINATIONS})",
        "create consumer projection of JOB_EVENTS (event.job.>)",
        "create consumer given_up of ADVISORIES (all of it)",
        "create consumer embed_bulk_default of JOBS (job.embed.default.*)",
        "create consumer embed_interactive_default of INTERACTIVE (embed.interactive.default)",
        "create consumer train_default of WORK (job.train.default.*)",
        "create consumer data_default of WORK (job.data.default.*)",
    ]


async def test_applying_again_changes_nothing(empty_nats_url: str) -> None:
    table = Topology.for_pools(POOLS)
    await apply(empty_nats_url, table)

    assert [] == await apply(empty_nats_url, table)


async def test_a_dry_run_says_the_same_and_does_nothing(empty_nats_url: str) -> None:
    table = Topology.for_pools(POOLS)

    would = await apply(empty_nats_url, table, dry_run=True)

    assert would == await apply(empty_nats_url, table)


async def test_what_differs_is_updated_and_work_in_it_stays(empty_nats_url: str) -> None:
    await apply(empty_nats_url, Topology.for_pools(["default"]))
    client = await nats.connect(empty_nats_url)
    await client.request(subjects.embed_job("default", "1"), b"work", timeout=5)
    table = Topology.for_pools(["default"], limits=Limits(ack_wait_s=5.0))
    table = _changed(table, topology.JOBS, max_age_s=3600.0)

    lines = await apply(empty_nats_url, table)

    assert lines == [
        "update stream JOBS: max_age 604800 s -> 3600 s",
        "update consumer projection of JOB_EVENTS: ack_wait 12 s -> 5 s",
        "update consumer given_up of ADVISORIES: ack_wait 12 s -> 5 s",
        "update consumer embed_bulk_default of JOBS: ack_wait 12 s -> 5 s",
        "update consumer embed_interactive_default of INTERACTIVE: ack_wait 12 s -> 5 s",
        "update consumer train_default of WORK: ack_wait 12 s -> 5 s",
        "update consumer data_default of WORK: ack_wait 12 s -> 5 s",
    ]
    assert [] == await apply(empty_nats_url, table)
    assert 1 == (await client.jsm().stream_info(topology.JOBS)).state.messages
    await client.close()


async def test_a_pool_that_is_gone_keeps_its_consumer(empty_nats_url: str) -> None:
    """There may be work in it that a worker of the old pool comes back for."""
    await apply(empty_nats_url, Topology.for_pools(["old", "default"]))

    assert [] == await apply(empty_nats_url, Topology.for_pools(["default"]))
    client = await nats.connect(empty_nats_url)
    assert await client.jsm().consumer_info(topology.JOBS, topology.embed_bulk("old"))
    await client.close()


async def test_what_an_operator_set_beside_the_table_stays(empty_nats_url: str) -> None:
    await apply(empty_nats_url, Topology.for_pools(["default"]))
    client = await nats.connect(empty_nats_url)
    config = (await client.jsm().stream_info(topology.JOBS)).config
    await client.jsm().update_stream(config, description="kept by hand")

    await apply(empty_nats_url, _changed(Topology.for_pools(["default"]), topology.JOBS, max_age_s=3600.0))

    config = (await client.jsm().stream_info(topology.JOBS)).config
    assert (config.description, config.max_age) == ("kept by hand", 3600.0)
    await client.close()


async def test_a_change_the_server_refuses_is_named(empty_nats_url: str) -> None:
    await apply(empty_nats_url, Topology.for_pools(["default"]))

    with pytest.raises(TopologyRefused, match="update stream JOBS: storage file -> memory"):
        await apply(
            empty_nats_url, _changed(Topology.for_pools(["default"]), topology.JOBS, storage="memory")
        )


async def test_a_name_the_server_refuses_is_named(empty_nats_url: str) -> None:
    name = "x" * 300
    table = msgspec.structs.replace(Topology.for_pools([]), consumers=())
    jobs = msgspec.structs.replace(table.streams[0], name=name)

    with pytest.raises(TopologyRefused, match=name):
        await apply(empty_nats_url, msgspec.structs.replace(table, streams=(jobs,)))


async def test_a_wrong_credential_is_refused_at_once(nats_url: str) -> None:
    wrong = "nats://towhee:wrong@" + nats_url.rpartition("@")[2]

    with pytest.raises(NotPermitted, match=r"127\.0\.0\.1:\d+ refuses the credential"):
        await apply(wrong, Topology.for_pools([]))


async def test_an_address_where_nobody_is_says_so() -> None:
    with pytest.raises(BusUnavailable, match="no bus at 127"):
        await Connection.open(f"nats://127.0.0.1:{find_free_port()}", name="test", patience_s=0.3)
