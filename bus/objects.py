"""Bytes by key: a folder on a laptop, S3 on a cluster, one library for both (obstore)."""

import asyncio
import hashlib
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import msgspec
import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from bus.errors import ObjectNotFound, ObjectStoreError, ObjectTooLarge

if TYPE_CHECKING:
    # Described by obstore, and not there when it runs.
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")

#: Parts of a streamed download.
_CHUNK_BYTES = 1024 * 1024
#: Parts of an upload, of which so many are in memory: S3 takes no smaller ones.
_PART_BYTES = 5 * 1024 * 1024
_PARTS_AT_ONCE = 2
#: S3 that fails is asked again for this long. obstore's own 180 s are past every deadline of a caller.
_RETRIES: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=5)}
#: S3 that says nothing: a part has to be there within the second one.
_TIMEOUTS: "ClientConfig" = {"connect_timeout": timedelta(seconds=2), "read_timeout": timedelta(seconds=10)}
#: Objects that are listed, and then deleted, at once.
_LISTED = 500

#: A folder in the folder of objects, and no key: a mount that is gone leaves an empty folder, which would
#: otherwise look like a store that never had what is asked for.
_MARKER = ".objects"

#: Keys are made by us, never by a client; this keeps it so.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """Where content was put, and what it is."""

    key: str
    sha256: str
    byte_size: int


class ObjectStore:
    """Every method raises ObjectStoreError when the store does not do what it is asked."""

    def __init__(self, store: LocalStore | S3Store, *, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    @classmethod
    def open(cls, url: str) -> Self:
        """Open ``file:///folder`` or ``s3://bucket/prefix``.

        A folder is created, private to its owner. S3 takes its credentials, region and endpoint from the
        usual ``AWS_*`` environment variables.

        Raises:
            ObjectStoreError: the URL is of another kind, or the folder can't be made.
        """
        parts = urlsplit(url)
        if parts.scheme == "file":
            folder = Path(unquote(parts.path))
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                (folder / _MARKER).mkdir(mode=0o700, exist_ok=True)
                # Empty folders go with the last object in them.
                return cls(LocalStore(folder, automatic_cleanup=True), folder=folder)
            except (OSError, BaseError) as error:
                raise ObjectStoreError(f"the folder {folder} can't be used: {error}") from error
        if parts.scheme == "s3":
            try:
                return cls(S3Store.from_url(url, retry_config=_RETRIES, client_options=_client_options()))
            except BaseError as error:
                raise ObjectStoreError(f"{url} can't be used: {error}") from error
        raise ObjectStoreError(f"an object store is file:///folder or s3://bucket/prefix, not {url}")

    async def put(self, key: str, data: bytes) -> None:
        """Write an object whole; a reader sees all of it or nothing."""
        try:
            await obstore.put_async(self._store, _checked(key), data, use_multipart=False)
            self._ensure_kept(key)
        except (BaseError, OSError) as error:
            raise ObjectStoreError(f"{key} can't be written") from error

    async def put_stream(self, chunks: AsyncIterator[bytes], *, max_bytes: int) -> StoredObject:
        """Write content under a key made of its digest: first under a temporary key, then renamed.

        Raises:
            ObjectTooLarge: more than ``max_bytes`` came; nothing is kept.
        """
        intake = _Intake(chunks, max_bytes)
        temporary_key = f"incoming/{uuid4().hex}"
        try:
            await obstore.put_async(
                self._store,
                temporary_key,
                intake.read(),
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
            stored = intake.as_object()
            await obstore.rename_async(self._store, temporary_key, stored.key)
            self._ensure_kept(stored.key)
        except BaseException as error:
            # Whatever ended it, a cancelled upload included, the temporary object must not stay.
            with suppress(BaseError, OSError):
                await obstore.delete_async(self._store, temporary_key)
            if intake.error is not None:
                raise intake.error from error
            if isinstance(error, BaseError | OSError):
                raise ObjectStoreError("the upload can't be written") from error
            raise
        return stored

    async def put_file(self, key: str, path: Path) -> StoredObject:
        """Write a file under a key, part by part; a reader sees all of it or what was there before.

        Raises:
            OSError: the file can't be read.
        """
        intake = _Intake(_read_file(path), sys.maxsize)
        try:
            await obstore.put_async(
                self._store,
                _checked(key),
                intake.read(),
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
            self._ensure_kept(key)
        except (BaseError, OSError) as error:
            if intake.error is not None:
                raise intake.error from error
            raise ObjectStoreError(f"{key} can't be written") from error
        return intake.as_object(key)

    async def get_file(self, key: str, path: Path, *, max_bytes: int = sys.maxsize) -> StoredObject:
        """Read an object into a file, which is there when all of it is.

        Raises:
            ObjectNotFound: nothing is stored under the key.
            ObjectTooLarge: it has more than ``max_bytes``; nothing is kept.
            OSError: the file can't be written.
        """
        intake = _Intake(self.stream(key), max_bytes)
        part = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with part.open("xb") as file:
                async for chunk in intake.read():
                    # A disk that is slow must not hold up the loop.
                    await asyncio.to_thread(file.write, chunk)
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return intake.as_object(key)

    async def get(self, key: str) -> bytes:
        """Read an object whole.

        Raises:
            ObjectNotFound: nothing is stored under the key.
        """
        try:
            result = await self._ask(obstore.get_async, key)
            return bytes(await result.bytes_async())
        except FileNotFoundError as error:
            raise ObjectNotFound(key) from error
        except (BaseError, OSError) as error:
            raise ObjectStoreError(f"{key} can't be read") from error

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Read an object by chunks of at most a megabyte or so.

        Raises:
            ObjectNotFound: nothing is stored under the key.
        """
        try:
            result = await self._ask(obstore.get_async, key)
            async for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)
        except FileNotFoundError as error:
            raise ObjectNotFound(key) from error
        except (BaseError, OSError) as error:
            raise ObjectStoreError(f"{key} can't be read") from error

    async def copy(self, key: str, to_key: str) -> None:
        """Put what is under one key under another one, too, without reading it.

        Raises:
            ObjectNotFound: nothing is stored under the key.
        """
        try:
            await self._ask(lambda store, known: obstore.copy_async(store, known, _checked(to_key)), key)
            self._ensure_kept(to_key)
        except FileNotFoundError as error:
            raise ObjectNotFound(key) from error
        except (BaseError, OSError) as error:
            raise ObjectStoreError(f"{key} can't be copied to {to_key}") from error

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        try:
            with suppress(FileNotFoundError):
                await self._ask(obstore.delete_async, key)
        except (BaseError, OSError) as error:
            raise ObjectStoreError(f"{key} can't be deleted") from error

    async def delete_below(self, prefix: str) -> int:
        """Remove every object whose key begins with ``prefix/``; return how many there were."""
        num_deleted = 0
        try:
            # Page by page: what is listed is never held all at once.
            async for page in obstore.list(self._store, _checked(prefix), chunk_size=_LISTED):
                keys = [found["path"] for found in page]
                await obstore.delete_async(self._store, keys)
                num_deleted += len(keys)
            self._ensure_there()
        except (BaseError, OSError) as error:
            raise ObjectStoreError(f"what is below {prefix} can't be deleted") from error
        return num_deleted

    async def exists(self, key: str) -> bool:
        """Whether anything is stored under the key."""
        try:
            await self._ask(obstore.head_async, key)
        except FileNotFoundError:
            return False
        except (BaseError, OSError) as error:
            raise ObjectStoreError(f"{key} can't be looked up") from error
        return True

    async def _ask(self, ask: Callable[[LocalStore | S3Store, str], Awaitable[T]], key: str) -> T:
        """Ask for what is under a key.

        Raises:
            FileNotFoundError: nothing is.
        """
        try:
            return await ask(self._store, _checked(key))
        except FileNotFoundError:
            if self._folder is None:
                raise
            self._ensure_there()
            # The folder is there now; it may have been away when it was asked.
            return await ask(self._store, key)

    def _ensure_there(self) -> None:
        """Raise ObjectStoreError if the folder is another one than was opened."""
        if self._folder is not None:
            try:
                (self._folder / _MARKER).stat()
            except OSError as error:
                raise ObjectStoreError(f"the folder of objects is away: {error}") from error

    def _ensure_kept(self, key: str) -> None:
        """Raise if an object was written into another folder than the one that was opened, and so is lost.

        In this order: the other folder may have gone since, and what was written with it.
        """
        self._ensure_there()
        if self._folder is not None:
            (self._folder / key).stat()

    async def check(self) -> None:
        """Write, read and delete a small object.

        Raises:
            ObjectStoreError: one of them failed.
        """
        key = f"checks/{uuid4().hex}"
        await self.put(key, b"ok")
        try:
            answer = await self.get(key)
        finally:
            await self.delete(key)
        if answer != b"ok":
            raise ObjectStoreError("the object store answered with other bytes than were written")


def _client_options() -> "ClientConfig":
    # Options of ours hide the one that obstore would read from the environment.
    allow_http = os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true"}
    return {**_TIMEOUTS, "allow_http": allow_http}


class _Intake:
    """Counts and hashes content on its way in. An error on the way is kept: obstore wraps what it sees."""

    def __init__(self, chunks: AsyncIterator[bytes], max_bytes: int) -> None:
        self._chunks = chunks
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._byte_size = 0
        self.error: BaseException | None = None

    async def read(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                self._take(chunk)
                yield chunk
        except BaseException as error:
            self.error = error
            raise

    def _take(self, chunk: bytes) -> None:
        self._byte_size += len(chunk)
        if self._byte_size > self._max_bytes:
            raise ObjectTooLarge(f"more than {self._max_bytes} bytes")
        self._hash.update(chunk)

    def as_object(self, key: str | None = None) -> StoredObject:
        """Where it was put; the key is made of the digest unless there is one."""
        sha256 = self._hash.hexdigest()
        key = key or f"blobs/{sha256[:2]}/{sha256}"
        return StoredObject(key=key, sha256=sha256, byte_size=self._byte_size)


async def _read_file(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ObjectStoreError(f"{key!r} is no object key")
    return key
