import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from bus.errors import ObjectNotFound, ObjectStoreError, ObjectTooLarge
from bus.objects import ObjectStore


async def _chunks(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


async def test_what_was_put_comes_back(objects: ObjectStore) -> None:
    await objects.put("results/job/1.f32", b"abc")

    assert b"abc" == await objects.get("results/job/1.f32")
    assert await objects.exists("results/job/1.f32")


async def test_putting_again_replaces_the_whole_object(objects: ObjectStore) -> None:
    await objects.put("a", b"long content")
    await objects.put("a", b"short")

    assert b"short" == await objects.get("a")


async def test_a_copy_is_an_object_of_its_own(objects: ObjectStore) -> None:
    await objects.put("a/first", b"content")

    await objects.copy("a/first", "b/second")
    await objects.put("a/first", b"changed")
    await objects.delete("a/first")

    assert b"content" == await objects.get("b/second")


async def test_what_is_not_there_is_not_copied(objects: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound):
        await objects.copy("a/none", "b/second")

    assert not await objects.exists("b/second")


async def test_streamed_content_lies_under_the_key_of_its_digest(objects: ObjectStore) -> None:
    parts = [b"x" * 700_000, b"y" * 700_000, b"z"]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()

    stored = await objects.put_stream(_chunks(parts), max_bytes=2_000_000)

    assert (f"blobs/{digest[:2]}/{digest}", digest, 1_400_001) == (
        stored.key,
        stored.sha256,
        stored.byte_size,
    )
    assert b"".join(parts) == b"".join([chunk async for chunk in objects.stream(stored.key)])


async def test_the_same_content_is_stored_once(objects: ObjectStore, tmp_path: Path) -> None:
    first = await objects.put_stream(_chunks([b"same"]), max_bytes=10)
    second = await objects.put_stream(_chunks([b"sa", b"me"]), max_bytes=10)

    assert first == second
    assert 1 == len(_files(tmp_path))


async def test_empty_content_is_content(objects: ObjectStore) -> None:
    stored = await objects.put_stream(_chunks([]), max_bytes=10)

    assert b"" == await objects.get(stored.key)


async def test_too_much_content_is_refused_and_leaves_nothing(objects: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(ObjectTooLarge):
        await objects.put_stream(_chunks([b"x" * 600_000] * 3), max_bytes=1_500_000)

    assert [] == _files(tmp_path)


async def test_a_sender_that_fails_is_heard_and_leaves_nothing(objects: ObjectStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 100
        raise ConnectionResetError("the client left")

    with pytest.raises(ConnectionResetError):
        await objects.put_stream(broken(), max_bytes=1000)

    assert [] == _files(tmp_path)


async def test_a_cancelled_upload_leaves_nothing(objects: ObjectStore, tmp_path: Path) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        started.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(objects.put_stream(endless(), max_bytes=10**9))
    await asyncio.wait_for(started.wait(), timeout=10)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload

    assert [] == _files(tmp_path)


async def test_a_missing_object_is_named(objects: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound, match="nothing/here"):
        await objects.get("nothing/here")
    with pytest.raises(ObjectNotFound):
        _ = [chunk async for chunk in objects.stream("nothing/here")]
    assert not await objects.exists("nothing/here")


async def test_deleting_twice_is_no_error(objects: ObjectStore) -> None:
    await objects.put("a", b"1")
    await objects.delete("a")
    await objects.delete("a")

    assert not await objects.exists("a")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/", ".hidden", "a b", "ä"]
)
async def test_a_key_that_is_not_ours_is_refused(objects: ObjectStore, key: str) -> None:
    with pytest.raises(ObjectStoreError):
        await objects.put(key, b"x")
    with pytest.raises(ObjectStoreError):
        await objects.get(key)


async def test_a_store_that_works_passes_its_check(objects: ObjectStore, tmp_path: Path) -> None:
    await objects.check()

    assert [] == _files(tmp_path)


async def test_a_store_whose_folder_is_gone_fails_its_check(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    store = ObjectStore.open(folder.as_uri())
    shutil.rmtree(folder)
    folder.write_text("a file where the folder was")

    with pytest.raises(ObjectStoreError):
        await store.check()


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    ObjectStore.open((tmp_path / "a folder").as_uri())

    assert 0o700 == (tmp_path / "a folder").stat().st_mode & 0o777


@pytest.mark.parametrize("url", ["/folder", "http://host/x", "s3://", ""])
def test_another_kind_of_address_is_refused(url: str) -> None:
    with pytest.raises(ObjectStoreError):
        ObjectStore.open(url)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ObjectStoreError, match="can't be used"):
        ObjectStore.open((tmp_path / "file" / "folder").as_uri())


def test_a_bucket_with_a_prefix_is_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")

    assert isinstance(ObjectStore.open("s3://bucket/some/prefix"), ObjectStore)
