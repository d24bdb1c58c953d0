"""Files into the object store and out of it, part by part, in a folder and on S3 alike."""

import asyncio
import hashlib
import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.errors import ObjectNotFound, ObjectStoreError, ObjectTooLarge
from bus.objects import ObjectStore
from tests.support.s3 import BUCKET

PART_BYTES = 5 * 1024 * 1024


@pytest.fixture(params=["a folder", "S3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "S3":
        request.getfixturevalue("s3")
        return ObjectStore.open(f"s3://{BUCKET}/some/prefix")
    return ObjectStore.open((tmp_path / "objects").as_uri())


@pytest.mark.parametrize("num_bytes", [0, 10, PART_BYTES, 2 * PART_BYTES + 1])
async def test_a_file_of_any_length_comes_back_as_it_was(
    store: ObjectStore, tmp_path: Path, num_bytes: int
) -> None:
    content = bytes(range(251)) * (num_bytes // 251) + b"x" * (num_bytes % 251)
    (tmp_path / "sent").write_bytes(content)

    stored = await store.put_file("models/1/a.bin", tmp_path / "sent")
    fetched = await store.get_file("models/1/a.bin", tmp_path / "got")

    assert ("models/1/a.bin", hashlib.sha256(content).hexdigest(), num_bytes) == (
        stored.key,
        stored.sha256,
        stored.byte_size,
    )
    assert stored == fetched
    assert content == (tmp_path / "got").read_bytes()
    assert content == await store.get("models/1/a.bin")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=4096))
def test_whatever_a_file_holds_comes_back(tmp_path: Path, content: bytes) -> None:
    store = ObjectStore.open((tmp_path / "objects").as_uri())
    (tmp_path / "sent").write_bytes(content)

    async def there_and_back() -> None:
        await store.put_file("a", tmp_path / "sent")
        await store.get_file("a", tmp_path / "got")

    asyncio.run(there_and_back())

    assert content == (tmp_path / "got").read_bytes()


async def test_an_object_that_is_not_there_leaves_no_file(store: ObjectStore, tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()

    with pytest.raises(ObjectNotFound):
        await store.get_file("models/none", folder / "got")

    assert [] == list(folder.iterdir())


async def test_an_object_that_is_too_large_leaves_what_was_there(store: ObjectStore, tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "got").write_bytes(b"before")
    await store.put("large", b"x" * 100)

    with pytest.raises(ObjectTooLarge):
        await store.get_file("large", folder / "got", max_bytes=99)

    assert [folder / "got"] == list(folder.iterdir())
    assert b"before" == (folder / "got").read_bytes()


async def test_a_file_that_is_not_there_is_no_fault_of_the_store(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await store.put_file("a", tmp_path / "nothing")

    assert not await store.exists("a")


async def test_a_file_that_cannot_be_stored_says_under_which_key(
    objects: ObjectStore, tmp_path: Path
) -> None:
    await objects.put("a/b", b"x")
    (tmp_path / "sent").write_bytes(b"content")

    with pytest.raises(ObjectStoreError, match=r"^a/b/c can't be written"):
        await objects.put_file("a/b/c", tmp_path / "sent")


async def test_a_large_file_is_never_in_memory_as_a_whole(objects: ObjectStore, tmp_path: Path) -> None:
    with (tmp_path / "sent").open("wb") as file:
        file.truncate(200 * 1024 * 1024)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    await objects.put_file("large", tmp_path / "sent")
    await objects.get_file("large", tmp_path / "got")

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 100 * 1024
