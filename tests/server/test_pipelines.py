import asyncio

import msgspec
import pytest

from bus import subjects
from bus.envelope import Message
from bus.memory import MemoryBus
from bus.messages import AnnouncePipelines, HostedPipeline, PipelinesAnnounced
from server.database import Database
from server.errors import InvalidInput, NotFound, PipelineUnavailable
from server.ids import new_id
from server.pipelines import Pipelines
from server.records import Modality, PageRequest, PipelineRecord

TEXT = HostedPipeline(name="text", version="1", modality="TEXT", dimension=8, pool="default", auto_rank=2)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def registry(database: Database, bus: MemoryBus, clock: Clock) -> Pipelines:
    registry = Pipelines(database, bus, clock=clock)
    await registry.start()
    return registry


async def _announce(
    registry: Pipelines, *hosted: HostedPipeline, worker: str = "w1", leaving: bool = False
) -> None:
    """Deliver an announcement as the bus would."""
    await registry._hear(PipelinesAnnounced(worker_id=worker, pipelines=list(hosted), leaving=leaving))


async def test_a_server_that_starts_asks_every_worker(database: Database, bus: MemoryBus) -> None:
    asked: list[Message] = []
    has_asked = asyncio.Event()

    async def remember(message: Message) -> None:
        asked.append(message)
        has_asked.set()

    await bus.follow(subjects.PIPELINES_WANTED, remember)

    await Pipelines(database, bus).start()

    await asyncio.wait_for(has_asked.wait(), 5)
    assert [AnnouncePipelines] == [type(message) for message in asked]


async def test_what_a_worker_announces_can_be_used(registry: Pipelines) -> None:
    await _announce(registry, TEXT)

    pipeline = await registry.require_available("text")

    assert ("text", "1", Modality.TEXT, 8, True, None) == (
        pipeline.name,
        pipeline.version,
        pipeline.modality,
        pipeline.dimension,
        pipeline.available,
        pipeline.reason,
    )
    assert pipeline == await registry.get_by_id(pipeline.id)


async def test_unseen_for_ten_seconds_it_is_listed_with_the_reason_and_cannot_be_used(
    registry: Pipelines, clock: Clock
) -> None:
    await _announce(registry, TEXT)
    clock.now_s += 10.5

    pipeline = await registry.get("text")

    assert (False, "No worker has announced it for 10 s.") == (pipeline.available, pipeline.reason)
    assert [] == await registry.list_available()
    with pytest.raises(PipelineUnavailable) as refused:
        await registry.require_available("text")
    assert ("pipeline",) == refused.value.path
    assert refused.value.retry_after_s is not None


async def test_a_worker_that_speaks_again_brings_its_pipelines_back(
    registry: Pipelines, clock: Clock
) -> None:
    await _announce(registry, TEXT)
    clock.now_s += 60
    await _announce(registry, TEXT)

    assert (await registry.get("text")).available


async def test_a_worker_that_leaves_takes_its_pipelines_with_it_at_once(registry: Pipelines) -> None:
    await _announce(registry, TEXT)
    await _announce(registry, TEXT, leaving=True)

    pipeline = await registry.get("text")

    assert (False, "The last worker that hosted it has shut down.") == (pipeline.available, pipeline.reason)


async def test_with_two_workers_one_may_leave(registry: Pipelines) -> None:
    await _announce(registry, TEXT, worker="w1")
    await _announce(registry, TEXT, worker="w2")
    await _announce(registry, TEXT, worker="w1", leaving=True)

    assert (await registry.get("text")).available


async def test_the_newest_announcement_decides_and_the_older_version_takes_over_when_it_goes(
    registry: Pipelines, clock: Clock
) -> None:
    await _announce(registry, TEXT, worker="old")
    clock.now_s += 1
    await _announce(registry, msgspec.structs.replace(TEXT, version="2"), worker="new")
    clock.now_s += 1
    await _announce(registry, TEXT, worker="old")
    assert "2" == (await registry.get("text")).version

    await _announce(registry, worker="new", leaving=True)
    assert "1" == (await registry.get("text")).version


async def test_the_id_stays_when_the_version_changes(registry: Pipelines) -> None:
    await _announce(registry, TEXT)
    before = await registry.get("text")
    await _announce(registry, msgspec.structs.replace(TEXT, version="2"))

    assert before.id == (await registry.get("text")).id


async def test_a_restarted_server_still_knows_it_and_says_that_nobody_hosts_it(
    registry: Pipelines, database: Database, bus: MemoryBus
) -> None:
    await _announce(registry, TEXT)
    restarted = Pipelines(database, bus)
    await restarted.start()

    pipeline = await restarted.get("text")

    assert (await registry.get("text")).id == pipeline.id
    assert (False, "No worker has announced it since this server started.") == (
        pipeline.available,
        pipeline.reason,
    )


async def test_what_another_replica_stored_later_is_found(
    registry: Pipelines, database: Database, bus: MemoryBus
) -> None:
    other = Pipelines(database, MemoryBus())
    await other.start()
    await _announce(other, TEXT)

    assert not (await registry.get("text")).available


@pytest.mark.parametrize("name", ["nothing", "", "a\0b", "auto"])
async def test_an_unknown_name_is_not_found_under_its_field(registry: Pipelines, name: str) -> None:
    with pytest.raises(NotFound) as refused:
        await registry.require_available(name)

    assert ("pipeline",) == refused.value.path


async def test_an_unknown_id_is_not_found(registry: Pipelines) -> None:
    with pytest.raises(NotFound):
        await registry.get_by_id(new_id())


async def test_auto_takes_the_lowest_rank_of_the_modality_that_is_there(
    registry: Pipelines, clock: Clock
) -> None:
    better = msgspec.structs.replace(TEXT, name="better", auto_rank=1)
    never = msgspec.structs.replace(TEXT, name="never", auto_rank=None)
    image = msgspec.structs.replace(TEXT, name="image", modality="IMAGE", auto_rank=0)
    await _announce(registry, TEXT, never, image, worker="w1")
    await _announce(registry, better, worker="w2")

    async def auto() -> str | None:
        found: PipelineRecord | None = await registry.find_auto(Modality.TEXT)
        return found and found.name

    assert "better" == await auto()
    await _announce(registry, worker="w2", leaving=True)
    assert "text" == await auto()
    assert None is await registry.find_auto(Modality.AUDIO)


async def test_pages_list_every_pipeline_ever_seen_of_a_modality(registry: Pipelines, clock: Clock) -> None:
    image = msgspec.structs.replace(TEXT, name="image", modality="IMAGE")
    await _announce(registry, TEXT, image)
    clock.now_s += 60
    await _announce(registry, msgspec.structs.replace(TEXT, name="new"), worker="w2")

    everything = await registry.page(None, PageRequest(first=10))
    texts = await registry.page(Modality.TEXT, PageRequest(first=1))

    assert [("new", True), ("image", False), ("text", False)] == [
        (record.name, record.available) for record in everything.items
    ]
    assert (["new"], True, 2) == ([record.name for record in texts.items], texts.has_next, texts.total)
    with pytest.raises(InvalidInput):
        await registry.page(None, PageRequest(first=0))


async def test_an_unchanged_announcement_does_not_write(registry: Pipelines, database: Database) -> None:
    await _announce(registry, TEXT)
    before = await database.fetch_one("SELECT xmin::text AS version FROM pipelines")
    await _announce(registry, TEXT)
    await _announce(registry, TEXT, worker="w2")

    assert before == await database.fetch_one("SELECT xmin::text AS version FROM pipelines")


async def test_a_database_that_is_away_delays_a_new_pipeline_and_loses_nothing(
    registry: Pipelines, database_url: str, bus: MemoryBus
) -> None:
    away = await Database.open(database_url)
    replica = Pipelines(away, bus)
    await replica.start()
    await away.close()

    await _announce(replica, TEXT)

    assert [] == await replica.list_available()
