"""Files of jobs: what is kept, what goes, what is uploaded and what is too old for that."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from bus.errors import ObjectStoreError
from bus.memory import MemoryBus
from bus.messages import CheckpointSaved, StoredFiles
from bus.objects import ObjectStore, StoredObject
from bus.topology import PROJECTION
from tests.support.waiting import until_true
from workers.train.service import checkpoints
from workers.train.service.cache import FileCache, FileDamaged
from workers.train.service.checkpoints import CheckpointUploads
from workers.train.service.folders import Folders
from workers.train.service.reporting import Reporter
from workers.train.service.storing import persistently, store_files


class Counting(ObjectStore):
    """Counts downloads; uploads wait while it is away."""

    num_fetched = 0
    is_away = False

    async def get_file(self, key: str, path: Path, *, max_bytes: int = 1 << 62) -> StoredObject:
        self.num_fetched += 1
        return await super().get_file(key, path, max_bytes=max_bytes)

    async def put_file(self, key: str, path: Path) -> StoredObject:
        if self.is_away:
            raise ObjectStoreError("away")
        return await super().put_file(key, path)


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    return Counting(ObjectStore.open((tmp_path / "objects").as_uri())._store)


async def stored_files(store: ObjectStore, folder: Path, **contents: bytes) -> StoredFiles:
    write_files(folder, contents)
    return await store_files(store, folder, f"models/{folder.name}")


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def cache_of(store: ObjectStore, tmp_path: Path, *, max_bytes: int = 1000) -> FileCache:
    (tmp_path / "cache").mkdir(exist_ok=True)
    return FileCache(store, tmp_path / "cache", max_bytes=max_bytes)


async def test_a_file_is_fetched_once_and_survives_the_jobs_that_use_it(
    store: Counting, tmp_path: Path
) -> None:
    stored = await stored_files(store, tmp_path / "m", a=b"12345", b=b"12345", c=b"other")
    for number in (1, 2):
        await cache_of(store, tmp_path).bring(stored, tmp_path / f"job-{number}")
        assert b"12345" == (tmp_path / f"job-{number}" / "a").read_bytes()

    assert 2 == store.num_fetched


async def test_a_kept_file_that_was_changed_is_fetched_again(store: Counting, tmp_path: Path) -> None:
    stored = await stored_files(store, tmp_path / "m", a=b"12345")
    cache = cache_of(store, tmp_path)
    await cache.bring(stored, tmp_path / "job-1")
    kept = tmp_path / "cache" / stored.files[0].sha256
    kept.chmod(0o600)
    kept.write_bytes(b"changed")

    await cache.bring(stored, tmp_path / "job-2")

    assert b"12345" == (tmp_path / "job-2" / "a").read_bytes()
    assert 2 == store.num_fetched


async def test_what_was_not_used_for_longest_goes_and_nobody_who_uses_it_notices(
    store: Counting, tmp_path: Path
) -> None:
    stored = {name: await stored_files(store, tmp_path / name, a=name.encode() * 400) for name in "xyz"}
    cache = cache_of(store, tmp_path, max_bytes=1000)
    for age, name in enumerate("xy"):
        await cache.bring(stored[name], tmp_path / f"job-{name}")
        os.utime(tmp_path / "cache" / stored[name].files[0].sha256, (age, age))
    await cache.bring(stored["x"], tmp_path / "again")

    await cache.bring(stored["z"], tmp_path / "job-z")

    kept = {path.read_bytes()[:1] for path in (tmp_path / "cache").iterdir()}
    assert {b"x", b"z"} == kept
    assert b"y" * 400 == (tmp_path / "job-y" / "a").read_bytes()


async def test_a_file_that_is_not_the_one_is_refused(store: Counting, tmp_path: Path) -> None:
    stored = await stored_files(store, tmp_path / "m", a=b"12345")
    await store.put("models/m/a", b"54321")

    with pytest.raises(FileDamaged):
        await persistently(lambda: cache_of(store, tmp_path).bring(stored, tmp_path / "job"))

    assert [] == list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b", ""])
async def test_a_name_that_leads_elsewhere_is_refused(store: Counting, tmp_path: Path, name: str) -> None:
    stored = await stored_files(store, tmp_path / "m", a=b"12345")
    file = msgspec.structs.replace(stored.files[0], name=name)

    with pytest.raises(ObjectStoreError):
        await cache_of(store, tmp_path).bring(msgspec.structs.replace(stored, files=[file]), tmp_path / "job")


def test_a_worker_that_was_killed_leaves_nothing_to_the_next_one(tmp_path: Path) -> None:
    killed = Folders(tmp_path)
    left = killed.make()
    (left / "checkpoint").write_bytes(b"large")
    beside = Folders(tmp_path)
    kept = beside.make()
    assert killed._lock is not None
    os.close(killed._lock)

    Folders(tmp_path)

    assert not left.exists()
    assert kept.exists()


async def test_of_checkpoints_that_wait_only_the_newest_is_stored_and_old_ones_go(
    bus: MemoryBus, store: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_LONGEST_PAUSE_S", 0.001)
    await store.put("jobs/job-1/checkpoints/1-5/a", b"of the attempt before")
    reporter = Reporter(bus, store, "job-1", 2)
    uploads = CheckpointUploads(
        store, reporter, job_id="job-1", attempt=2, before="jobs/job-1/checkpoints/1-5"
    )
    reporter.start()
    uploads.start()

    def offer(step: int) -> Path:
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "a").write_bytes(b"x" * step)
        uploads.offer(step, folder)
        return folder

    store.is_away = True
    waiting = [offer(step) for step in (10, 20, 30)]
    assert not await uploads.drain(within_s=0.05)
    store.is_away = False
    assert await uploads.drain(within_s=10.0)
    assert not any(folder.exists() for folder in waiting)
    for step in (40, 50, 50):
        offer_again = tmp_path / f"checkpoint-{step}"
        assert not offer_again.exists()
        offer(step)
        assert await uploads.drain(within_s=10.0)
        await reporter.flush()
    await uploads.close()
    await reporter.close()

    found = [delivery.message for delivery in await bus.puller(PROJECTION).fetch(limit=100, wait_s=0.0)]
    steps = [report.checkpoint.step for report in found if isinstance(report, CheckpointSaved)]
    assert [30, 40, 50] == steps

    async def kept() -> bool:
        prefixes = ("1-5/a", "2-30/a", "2-40/a", "2-50/a")
        return [False, False, True, True] == [
            await store.exists(f"jobs/job-1/checkpoints/{prefix}") for prefix in prefixes
        ]

    await until_true(kept)
