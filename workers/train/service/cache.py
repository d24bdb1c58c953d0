"""Files out of the object store that are wanted again and again, kept by what they hold."""

import asyncio
import hashlib
import logging
import os
import shutil
from collections import defaultdict
from pathlib import Path, PurePosixPath

from bus.errors import ObjectStoreError
from bus.messages import StoredFile, StoredFiles
from bus.objects import ObjectStore

logger = logging.getLogger(__name__)

#: Nobody writes into a file that several folders share.
_READ_ONLY = 0o444


class FileDamaged(ObjectStoreError):
    """What lies in the object store is not what was put there."""


class FileCache:
    """Brings files to folders of jobs, as links of the ones that are kept; so none goes while it is used."""

    def __init__(self, objects: ObjectStore, folder: Path, *, max_bytes: int) -> None:
        self._objects = objects
        self._folder = folder
        self._max_bytes = max_bytes
        # One download of a file at a time; bounded by the files of the jobs in hand.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def bring(self, stored: StoredFiles, folder: Path) -> None:
        """Put all files into ``folder`` under their names.

        Raises:
            ObjectNotFound: one is not there any more.
            FileDamaged: one is not what was stored.
            ObjectStoreError: the store does not answer.
        """
        for file in stored.files:
            target = place(folder, file.name)
            async with self._locks[file.sha256]:
                kept = await self._ensure(f"{stored.prefix}/{file.name}", file)
                await asyncio.to_thread(_link, kept, target)
            self._locks.pop(file.sha256, None)
        await asyncio.to_thread(self._evict)

    async def _ensure(self, key: str, file: StoredFile) -> Path:
        kept = self._folder / file.sha256
        if kept.exists() and await asyncio.to_thread(_digest, kept) == file.sha256:
            os.utime(kept)
            return kept
        await fetch(self._objects, key, file, kept)
        kept.chmod(_READ_ONLY)
        return kept

    def _evict(self) -> None:
        """Remove what was not used for longest until the rest is small enough."""
        found = [(path, path.stat()) for path in self._folder.iterdir() if path.is_file()]
        total = sum(stat.st_size for _, stat in found)
        for path, stat in sorted(found, key=lambda each: each[1].st_mtime):
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size


async def bring_uncached(objects: ObjectStore, stored: StoredFiles, folder: Path) -> None:
    """Put files that are wanted once into ``folder``; raises what `FileCache.bring` does."""
    for file in stored.files:
        target = place(folder, file.name)
        await fetch(objects, f"{stored.prefix}/{file.name}", file, target)


async def fetch(objects: ObjectStore, key: str, file: StoredFile, target: Path) -> None:
    """Fetch one file and make sure that it is the one.

    Raises:
        ObjectNotFound, ObjectStoreError, FileDamaged: it is not there, or not the one.
    """
    fetched = await objects.get_file(key, target, max_bytes=max(file.byte_size, 1))
    if fetched.sha256 != file.sha256:
        await asyncio.to_thread(target.unlink, missing_ok=True)
        raise FileDamaged(f"{key} is not what was stored")


def place(folder: Path, name: str) -> Path:
    """Return where a file of a name goes, with the folders above it.

    Raises:
        ObjectStoreError: the name leads elsewhere.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise ObjectStoreError(f"{name!r} is no name of a file")
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _link(kept: Path, target: Path) -> None:
    try:
        os.link(kept, target)
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(kept, target)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
