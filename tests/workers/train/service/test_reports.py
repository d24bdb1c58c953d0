"""Reports come out numbered without a gap and in order, whatever the bus and the object store do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from bus.envelope import Message
from bus.errors import ObjectStoreError, PublishFailed
from bus.memory import MemoryBus
from bus.messages import DatasetValidated, RowIssue, SamplesGenerated, TrainingProgressed, TrainingWarned
from bus.messages.work import WorkReport
from bus.objects import ObjectStore, StoredObject
from bus.topology import PROJECTION
from tests.support.waiting import until_true
from workers.train.service import reporting
from workers.train.service.reporting import Attached, Reporter

JOB = "job-1"
#: Nothing is stored where no report has a file.
NO_OBJECTS = ObjectStore(MemoryStore())  # type: ignore[arg-type]


class Refusing(MemoryBus):
    """A bus that fails as often as it is told to, before or after it has stored the message."""

    def __init__(self) -> None:
        super().__init__()
        #: What happens to the next publishes: False is refused, True is stored and refused all the same.
        self.failures: list[bool] = []
        self.is_away = False

    async def publish(self, subject: str, message: Message, **options: object) -> None:
        if self.is_away:
            raise PublishFailed("away")
        if self.failures:
            if self.failures.pop(0):
                await super().publish(subject, message, **options)  # type: ignore[arg-type]
            raise PublishFailed("no answer")
        await super().publish(subject, message, **options)  # type: ignore[arg-type]


class Away(ObjectStore):
    """A store that fails until it is back."""

    is_away = True

    async def put_file(self, key: str, path: Path) -> StoredObject:
        if self.is_away:
            raise ObjectStoreError("away")
        return await super().put_file(key, path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are short."""
    monkeypatch.setattr(reporting, "_LONGEST_PAUSE_S", 0.001)


@pytest.fixture
async def bus() -> AsyncIterator[Refusing]:
    refusing = Refusing()
    yield refusing
    await refusing.close()


def progress(step: int, **metrics: float) -> TrainingProgressed:
    return TrainingProgressed(
        job_id=JOB, attempt=2, number=0, step=step, total_steps=100, epoch=1, metrics=metrics
    )


def warning(step: int) -> Callable[..., WorkReport]:
    return partial(TrainingWarned, step=step, code="c", message="m")


async def stored(bus: MemoryBus) -> list[WorkReport]:
    puller = bus.puller(PROJECTION)
    found = [delivery.message for delivery in await puller.fetch(limit=1000, wait_s=0.0)]
    assert all(isinstance(report, WorkReport) for report in found)
    return found  # type: ignore[return-value]


async def reporting_of(
    bus: MemoryBus, objects: ObjectStore, act: Callable[[Reporter], Awaitable[None]]
) -> None:
    reporter = Reporter(bus, objects, JOB, 2, progress_every_s=0.0)
    reporter.start()
    async with asyncio.timeout(10.0):
        await act(reporter)
    await reporter.close()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(failures=st.lists(st.booleans(), max_size=12), kinds=st.lists(st.sampled_from("pw"), max_size=12))
def test_reports_have_numbers_without_a_gap_when_publishes_fail(
    failures: list[bool], kinds: list[str]
) -> None:
    async def check() -> None:
        bus = Refusing()
        bus.failures = list(failures)

        async def act(reporter: Reporter) -> None:
            for step, kind in enumerate(kinds):
                if kind == "p":
                    reporter.progress(progress(step))
                else:
                    reporter.add(warning(step))
                await asyncio.sleep(0)
            await reporter.finish(warning(1000))
            assert reporter.num_stored > kinds.count("w")

        await reporting_of(bus, NO_OBJECTS, act)
        found = await stored(bus)
        assert list(range(1, len(found) + 1)) == [report.number for report in found]
        warned = [report.step for report in found if isinstance(report, TrainingWarned)]
        assert [*(step for step, kind in enumerate(kinds) if kind == "w"), 1000] == warned
        await bus.close()

    asyncio.run(check())


async def test_each_report_has_its_share_of_what_the_attempt_has_computed(
    bus: MemoryBus, objects: ObjectStore
) -> None:
    spent = iter([0.0, 1.5, 1.5, 4.0])
    reporter = Reporter(bus, objects, JOB, 2, spent_s=lambda: next(spent))
    reporter.start()
    for step in range(3):
        reporter.add(warning(step))

    await reporter.finish(warning(1000))
    await reporter.close()

    assert [0.0, 1.5, 0.0, 2.5] == [report.compute_s for report in await stored(bus)]


async def test_while_the_bus_is_away_progress_shrinks_to_the_newest_and_all_else_waits(
    bus: Refusing, objects: ObjectStore
) -> None:
    async def act(reporter: Reporter) -> None:
        bus.is_away = True
        reporter.add(warning(0))
        reporter.progress(progress(1, eval_loss=0.5))
        for step in range(2, 5000):
            reporter.progress(progress(step, loss=float(step)))
        for step in range(5):
            reporter.add(warning(step + 1))
        bus.is_away = False
        await reporter.flush()

    await reporting_of(bus, objects, act)

    found = await stored(bus)
    assert list(range(1, 8)) == [report.number for report in found]
    assert [0, 1, 2, 3, 4, 5] == [report.step for report in found if isinstance(report, TrainingWarned)]
    (newest,) = [report for report in found if isinstance(report, TrainingProgressed)]
    assert (4999, {"eval_loss": 0.5, "loss": 4999.0}) == (newest.step, newest.metrics)


async def test_progress_comes_at_most_as_often_as_is_allowed_and_the_last_always(
    bus: Refusing, objects: ObjectStore
) -> None:
    reporter = Reporter(bus, objects, JOB, 2, progress_every_s=1000.0)
    reporter.start()
    reporter.progress(progress(1))

    async def first_is_stored() -> bool:
        return reporter.num_stored == 1

    await until_true(first_is_stored)
    for step in range(2, 100):
        reporter.progress(progress(step))
    await reporter.finish(warning(100))
    await reporter.close()

    steps = [report.step for report in await stored(bus) if isinstance(report, TrainingProgressed)]
    assert [1, 99] == steps


async def test_a_sample_waits_for_the_object_store_and_progress_passes_it(
    bus: Refusing, tmp_path: Path
) -> None:
    folder = tmp_path / "objects"
    objects = Away(ObjectStore.open(folder.as_uri())._store)
    path = tmp_path / "sample.png"
    path.write_bytes(b"a picture")

    async def act(reporter: Reporter) -> None:
        draft = partial(SamplesGenerated, step=5, name="grid", media_type="image/png")
        reporter.add(draft, attached=Attached(path=path, suffix=".png"))
        reporter.progress(progress(6))

        async def has_passed() -> bool:
            return reporter.num_stored == 1

        await until_true(has_passed)
        objects.is_away = False
        await reporter.flush()

    await reporting_of(bus, objects, act)

    first, second = await stored(bus)
    assert isinstance(first, TrainingProgressed)
    assert isinstance(second, SamplesGenerated)
    assert f"jobs/{JOB}/samples/2-2.png" == second.object_key
    assert b"a picture" == await objects.get(second.object_key)
    assert not path.exists()


async def test_issues_that_no_message_has_room_for_are_counted(bus: Refusing, objects: ObjectStore) -> None:
    issues = [RowIssue(row=row, message="€" * 160) for row in range(1000)]
    draft = partial(
        DatasetValidated, dataset=None, kind=None, modality=None, num_rows=0, classes=[], class_counts=[],
        num_unlabelled=0, splits=[], issues=issues, num_issues=2000,
    )  # fmt: skip

    await reporting_of(bus, objects, lambda reporter: reporter.finish(draft))

    (report,) = await stored(bus)
    assert isinstance(report, DatasetValidated)
    assert (2000, True) == (report.num_issues, 400 <= len(report.issues) < 1000)
