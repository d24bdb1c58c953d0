"""What the object store says when the disk below it does not play along."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from bus.errors import ObjectStoreError
from bus.objects import ObjectStore
from tests.support.processes import until

Operation = Callable[[ObjectStore, str], Awaitable[object]]


async def _read_stream(store: ObjectStore, key: str) -> None:
    async for _ in store.stream(key):
        pass


OPERATIONS: dict[str, tuple[Operation, str]] = {
    "put": (lambda store, key: store.put(key, b"x"), "can't be written"),
    "get": (lambda store, key: store.get(key), "can't be read"),
    "stream": (_read_stream, "can't be read"),
    "delete": (lambda store, key: store.delete(key), "can't be deleted"),
    "exists": (lambda store, key: store.exists(key), "can't be looked up"),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_key_below_an_object_fails_by_name(objects: ObjectStore, name: str) -> None:
    """An object where a folder should be: what no permission of root's can get around."""
    operation, said = OPERATIONS[name]
    await objects.put("a/b", b"x")

    with pytest.raises(ObjectStoreError, match=f"^a/b/c {said}"):
        await operation(objects, "a/b/c")


async def _content() -> AsyncIterator[bytes]:
    yield b"content"


async def test_an_upload_that_cannot_be_written_says_so(objects: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "objects" / "incoming").write_text("in the way")

    with pytest.raises(ObjectStoreError, match="the upload can't be written"):
        await objects.put_stream(_content(), max_bytes=100)


async def test_an_upload_cancelled_after_its_last_byte_leaves_nothing(
    objects: ObjectStore, tmp_path: Path
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"content"
        uploading.cancel()

    uploading = asyncio.ensure_future(objects.put_stream(chunks(), max_bytes=100))
    await asyncio.wait({uploading})

    assert uploading.cancelled()
    # The store tidies up behind the cancelled upload, in a thread of its own.
    await until(lambda: not any(path.is_file() for path in (tmp_path / "objects").rglob("*")))


@pytest.mark.parametrize("name", [*OPERATIONS, "put_stream", "delete_below"])
async def test_a_folder_that_is_gone_fails_and_does_not_look_empty(
    objects: ObjectStore, tmp_path: Path, name: str
) -> None:
    """As a mount that is gone does: its empty mount point is there."""
    operations = {
        **{name: operation for name, (operation, _) in OPERATIONS.items()},
        "put_stream": lambda store, _: store.put_stream(_content(), max_bytes=100),
        "delete_below": lambda store, key: store.delete_below(key),
    }
    await objects.put("a/b", b"x")
    folder = tmp_path / "objects"
    folder.rename(tmp_path / "elsewhere")
    folder.mkdir()

    with pytest.raises(ObjectStoreError):
        await operations[name](objects, "a/b")

    folder.rename(tmp_path / "mount point")
    (tmp_path / "elsewhere").rename(folder)
    assert b"x" == await objects.get("a/b")


async def test_a_store_that_answers_with_other_bytes_fails_its_check(objects: ObjectStore) -> None:
    class Liar(ObjectStore):
        async def get(self, key: str) -> bytes:
            await super().get(key)
            return b"something else"

    with pytest.raises(ObjectStoreError, match="other bytes"):
        await Liar(objects._store).check()
