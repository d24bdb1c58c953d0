"""What the object store says when the disk below it does not play along."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import obstore
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
    operations: dict[str, Operation] = {
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


@pytest.fixture
def brief_absence(
    objects: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Take the folder away until obstore's function of a name has run once; nothing after it sees that."""
    folder = tmp_path / "objects"

    def take_away(name: str) -> None:
        real: Callable[..., Awaitable[object]] = getattr(obstore, name)

        async def ask_and_come_back(*arguments: object, **keywords: object) -> object:
            try:
                return await real(*arguments, **keywords)
            finally:
                if (tmp_path / "elsewhere").exists():
                    folder.rename(tmp_path / "mount point")
                    (tmp_path / "elsewhere").rename(folder)

        monkeypatch.setattr(obstore, name, ask_and_come_back)
        folder.rename(tmp_path / "elsewhere")
        folder.mkdir()

    assert folder.is_dir()
    return take_away


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("put_async", lambda store: store.put("a/b", b"x")),
        ("rename_async", lambda store: store.put_stream(_content(), max_bytes=100)),
    ],
)
async def test_what_was_written_while_the_folder_was_away_was_not_stored(
    objects: ObjectStore,
    brief_absence: Callable[[str], None],
    name: str,
    write: Callable[[ObjectStore], Awaitable[object]],
) -> None:
    brief_absence(name)

    with pytest.raises(ObjectStoreError, match="can't be written"):
        await write(objects)


async def test_what_was_asked_for_while_the_folder_was_away_is_asked_for_again(
    objects: ObjectStore, brief_absence: Callable[[str], None]
) -> None:
    await objects.put("a/b", b"x")

    brief_absence("get_async")
    assert b"x" == await objects.get("a/b")

    brief_absence("head_async")
    assert await objects.exists("a/b")

    brief_absence("delete_async")
    await objects.delete("a/b")
    assert not await objects.exists("a/b")


async def test_a_store_that_answers_with_other_bytes_fails_its_check(objects: ObjectStore) -> None:
    class Liar(ObjectStore):
        async def get(self, key: str) -> bytes:
            await super().get(key)
            return b"something else"

    with pytest.raises(ObjectStoreError, match="other bytes"):
        await Liar(objects._store).check()
