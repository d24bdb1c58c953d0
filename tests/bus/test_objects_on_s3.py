"""The same object store on S3: its own rules, and what callers hear while it fails."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable

import pytest

from bus.errors import ObjectNotFound, ObjectStoreError, ObjectTooLarge
from bus.objects import ObjectStore
from tests.support.s3 import BUCKET, MIN_PART_BYTES, S3

#: Well below the deadlines of callers, whom obstore's own retries would keep for three minutes.
SOON_S = 15.0


async def _chunks(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.fixture
def store(s3: S3) -> ObjectStore:
    return ObjectStore.open(f"s3://{BUCKET}/some/prefix")


async def test_objects_lie_below_the_prefix_and_come_back(store: ObjectStore, s3: S3) -> None:
    await store.put("results/job/1.f32", b"abc")

    assert b"abc" == await store.get("results/job/1.f32")
    assert {"some/prefix/results/job/1.f32": b"abc"} == s3.objects
    assert await store.exists("results/job/1.f32")
    await store.check()


@pytest.mark.parametrize("num_bytes", [0, 10, 2_000_000, MIN_PART_BYTES, 2 * MIN_PART_BYTES + 1])
async def test_an_upload_of_any_length_has_parts_that_s3_takes(
    store: ObjectStore, s3: S3, num_bytes: int
) -> None:
    content = bytes(range(256)) * (num_bytes // 256) + b"x" * (num_bytes % 256)
    pieces = (content[start : start + 300_000] for start in range(0, num_bytes, 300_000))

    stored = await store.put_stream(_chunks(pieces), max_bytes=100_000_000)

    assert (hashlib.sha256(content).hexdigest(), num_bytes) == (stored.sha256, stored.byte_size)
    assert [f"some/prefix/{stored.key}"] == list(s3.objects)
    assert content == b"".join([chunk async for chunk in store.stream(stored.key)])


async def test_an_upload_that_is_too_large_leaves_nothing(store: ObjectStore, s3: S3) -> None:
    with pytest.raises(ObjectTooLarge):
        await store.put_stream(_chunks([b"x" * 1_000_000] * 20), max_bytes=15_000_000)

    assert ({}, {}) == (s3.objects, s3.uploads)


async def test_everything_below_a_prefix_is_deleted(store: ObjectStore) -> None:
    for key in ("results/a/1", "results/a/2", "results/b/1"):
        await store.put(key, b"x")

    assert 2 == await store.delete_below("results/a")

    assert [False, False, True] == [
        await store.exists(key) for key in ("results/a/1", "results/a/2", "results/b/1")
    ]


async def test_a_copy_lies_below_the_prefix_too(store: ObjectStore, s3: S3) -> None:
    await store.put("a/first", b"content")

    await store.copy("a/first", "b/second")

    assert b"content" == s3.objects["some/prefix/b/second"]
    with pytest.raises(ObjectNotFound):
        await store.copy("a/none", "b/third")


async def test_what_is_not_there_is_said_to_be_not_there(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound):
        await store.get("results/none")
    await store.delete("results/none")


async def test_s3_that_fails_for_a_moment_is_asked_again(store: ObjectStore, s3: S3) -> None:
    await store.put("a", b"x")
    s3.status = 503
    reading = asyncio.ensure_future(store.get("a"))
    asked = s3.num_requests
    async with asyncio.timeout(SOON_S):
        while s3.num_requests == asked:  # noqa: ASYNC110 - another thread counts
            await asyncio.sleep(0.001)

    s3.status = None

    assert b"x" == await reading


async def test_s3_that_fails_is_a_failure_soon(store: ObjectStore, s3: S3) -> None:
    s3.status = 503

    async with asyncio.timeout(SOON_S):
        with pytest.raises(ObjectStoreError, match=r"^a can't be read"):
            await store.get("a")
        with pytest.raises(ObjectStoreError, match=r"^a can't be written"):
            await store.put("a", b"x")


async def test_s3_that_is_gone_is_a_failure_soon(store: ObjectStore, s3: S3) -> None:
    s3.stop()

    async with asyncio.timeout(SOON_S):
        with pytest.raises(ObjectStoreError, match=r"^a can't be read"):
            await store.get("a")
