"""What is over goes when its time has come, and nothing else does."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from bus.errors import ObjectStoreError
from bus.objects import ObjectStore
from server.auth.principal import Principal
from server.database import Database
from server.errors import NotFound
from server.ids import new_id
from server.records import EmbeddingJobRecord, ItemEmbeddedRecord, JobEventRecord
from server.retention import Retention
from tests.support.jobs import CHUNK_SIZE, Counted, Replica, Worker

DAY_S = 24 * 3600.0


class Attic:
    """A sweep that keeps what is younger than a day."""

    def __init__(self, db: Database, objects: ObjectStore) -> None:
        self.counted = Counted()
        self.sweep = Retention(db, objects, retention_s=DAY_S, meter=self.counted.meter).sweep


@pytest.fixture
def attic(database: Database, objects: ObjectStore) -> Attic:
    return Attic(database, objects)


def _files(tmp_path: Path) -> list[str]:
    """Every object that is stored."""
    root = tmp_path / "objects"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def _ended(replica: Replica, worker: Worker, owner: Principal) -> EmbeddingJobRecord:
    job = await replica.create(owner, 4)
    overtaken = await worker.claim(job.id)
    await worker.compute(overtaken, 0)
    await worker.finish(await worker.claim(job.id))
    await replica.projection.step()
    return job


async def _age(db: Database, job_id: UUID, age: timedelta) -> None:
    await db.execute("UPDATE jobs SET finished_at = {} WHERE id = {}", datetime.now(UTC) - age, job_id)


async def _num(db: Database, table: str) -> int:
    [row] = await db.fetch(f"SELECT count(*) AS n FROM {table}")  # noqa: S608 - tables of ours
    return int(row["n"])


async def test_an_ended_job_goes_with_its_events_its_outbox_and_all_its_objects(
    replica: Replica, worker: Worker, owner: Principal, attic: Attic, database: Database, tmp_path: Path
) -> None:
    old = await _ended(replica, worker, owner)
    before = _files(tmp_path)
    young = await _ended(replica, worker, owner)
    kept = [path for path in _files(tmp_path) if path not in before]
    await _age(database, old.id, timedelta(days=1, seconds=1))
    await _age(database, young.id, timedelta(hours=23))

    await attic.sweep()

    assert kept == _files(tmp_path)
    with pytest.raises(NotFound):
        await replica.jobs.get(owner.user_id, old.id)
    for table in ("job_events", "outbox", "embedding_jobs"):
        [row] = await database.fetch(
            f"SELECT count(*) AS n FROM {table} WHERE job_id = {{}}",  # noqa: S608 - tables of ours
            old.id,
        )
        assert 0 == row["n"]
    assert 8 == len(await replica.history_of(young))
    assert 1 == attic.counted.total("towhee.retention.deleted", table="jobs")


async def test_who_reads_a_job_while_it_goes_hears_that_there_is_no_such_job_any_more(
    replica: Replica,
    worker: Worker,
    owner: Principal,
    attic: Attic,
    objects: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Vectors are deleted first, then rows; a subscriber may be between any two of them."""
    job = await replica.create(owner, 20 * CHUNK_SIZE)
    await worker.finish(await worker.claim(job.id))
    await replica.projection.step()
    await _age(replica.db, job.id, timedelta(days=2))
    are_gone, go_on = asyncio.Event(), asyncio.Event()
    delete_below = objects.delete_below

    async def delete_and_wait(prefix: str) -> None:
        await delete_below(prefix)
        are_gone.set()
        await go_on.wait()

    monkeypatch.setattr(objects, "delete_below", delete_and_wait)
    subscriptions = [replica.history.subscribe(owner.user_id, job.id) for _ in range(2)]
    for events in subscriptions:
        while not isinstance(await anext(events), ItemEmbeddedRecord):
            pass

    sweeping = asyncio.create_task(attic.sweep())
    await asyncio.wait_for(are_gone.wait(), 5)
    with pytest.raises(NotFound):
        await _read_on(subscriptions[0])
    go_on.set()
    await asyncio.wait_for(sweeping, 5)
    with pytest.raises(NotFound):
        await _read_on(subscriptions[1])
    assert replica.history.is_idle


async def _read_on(events: AsyncIterator[JobEventRecord]) -> None:
    async with asyncio.timeout(5):
        async for _ in events:
            pass


async def test_an_open_job_stays_however_old_it_is(
    replica: Replica, worker: Worker, owner: Principal, attic: Attic, database: Database
) -> None:
    job = await replica.create(owner, 2)
    await worker.claim(job.id)
    await database.execute("UPDATE jobs SET created_at = now() - interval '1 year'")

    await attic.sweep()

    assert job.id == (await replica.jobs.get(owner.user_id, job.id)).id


async def test_a_job_whose_objects_can_not_be_deleted_stays_and_keeps_no_other(
    replica: Replica,
    owner: Principal,
    attic: Attic,
    database: Database,
    objects: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stuck = await replica.create(owner, 1)
    others = [await replica.create(owner, 1) for _ in range(20)]
    await database.execute("UPDATE jobs SET state = 'FAILED', finished_at = now() - interval '2 days'")
    delete = objects.delete

    async def fail_for_one(key: str) -> None:
        if str(stuck.id) in key:
            raise ObjectStoreError("down")
        await delete(key)

    with monkeypatch.context() as patch:
        patch.setattr(objects, "delete", fail_for_one)
        await attic.sweep()

    assert [stuck.id] == [row["id"] for row in await database.fetch("SELECT id FROM jobs")]
    assert 20 == len(others) == attic.counted.total("towhee.retention.deleted", table="jobs")
    await attic.sweep()
    assert 0 == await _num(database, "jobs")


async def test_two_sweeps_at_once_delete_each_job_once(
    replica: Replica, owner: Principal, attic: Attic, database: Database, objects: ObjectStore
) -> None:
    for _ in range(20):
        await replica.create(owner, 1)
    await database.execute("UPDATE jobs SET state = 'FAILED', finished_at = now() - interval '2 days'")
    second = Attic(database, objects)

    await asyncio.gather(attic.sweep(), second.sweep())

    totals = [each.counted.total("towhee.retention.deleted", table="jobs") for each in (attic, second)]
    assert 20 == sum(totals)
    assert 0 == await _num(database, "jobs")


@pytest.mark.parametrize(
    ("ended_h", "expires_h", "is_kept"),
    [(None, 700, True), (None, -23, True), (None, -25, False), (-23, 700, True), (-25, 700, False)],
)
async def test_a_session_goes_a_while_after_its_end(
    attic: Attic, owner: Principal, database: Database, ended_h: int | None, expires_h: int, is_kept: bool
) -> None:
    now = datetime.now(UTC)
    await database.execute(
        "INSERT INTO sessions (id, user_id, token_digest, expires_at, ended_at) VALUES ({}, {}, {}, {}, {})",
        new_id(),
        owner.user_id,
        b"digest",
        now + timedelta(hours=expires_h),
        None if ended_h is None else now + timedelta(hours=ended_h),
    )

    await attic.sweep()

    assert is_kept == bool(await _num(database, "sessions"))


async def test_the_row_of_a_deleted_file_goes_and_a_file_stays(
    replica: Replica, attic: Attic, owner: Principal, database: Database
) -> None:
    async def chunks() -> object:
        yield b"A text."

    files = [await replica.uploads.store(owner, name="a.txt", chunks=chunks()) for _ in range(3)]  # type: ignore[arg-type]
    for file in files[:2]:
        await replica.uploads.delete(owner, file.id)
    await database.execute(
        "UPDATE files SET deleted_at = now() - interval '2 days' WHERE id = {}", files[0].id
    )

    await attic.sweep()

    left = {row["id"] for row in await database.fetch("SELECT id FROM files")}
    assert {files[1].id, files[2].id} == left
