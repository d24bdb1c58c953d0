"""Files of a job on their way into the object store."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

from bus.errors import ObjectNotFound, ObjectStoreError, ObjectTooLarge
from bus.messages import StoredFile, StoredFiles
from bus.objects import ObjectStore
from workers.retries import backoff_s
from workers.train.service.cache import FileDamaged

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: For how long a store that fails is asked again before a job is handed back.
PATIENCE_S = 60.0


async def persistently(act: Callable[[], Awaitable[T]], *, for_s: float = PATIENCE_S) -> T:
    """Do something with the object store again and again while the store fails.

    Raises:
        ObjectNotFound, ObjectTooLarge, FileDamaged: asking again would not help.
        ObjectStoreError: it still fails after ``for_s``.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + for_s
    tries = 0
    while True:
        try:
            return await act()
        except (ObjectNotFound, ObjectTooLarge, FileDamaged):
            raise
        except ObjectStoreError as error:
            tries += 1
            pause_s = min(backoff_s(tries), 5.0)
            if loop.time() + pause_s >= deadline:
                raise
            logger.warning("the object store is asked again in %.1f s: %s", pause_s, error)
            await asyncio.sleep(pause_s)


def files_below(folder: Path) -> list[Path]:
    """List all files of a folder, in order of their names."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


async def store_files(
    objects: ObjectStore, folder: Path, prefix: str, files: Iterable[Path] | None = None
) -> StoredFiles:
    """Put files of a folder under a prefix, by their names below the folder; all of them unless given.

    Raises:
        ObjectStoreError: the store fails.
    """
    stored = []
    for path in files_below(folder) if files is None else files:
        name = path.relative_to(folder).as_posix()
        put = await objects.put_file(f"{prefix}/{name}", path)
        stored.append(StoredFile(name=name, sha256=put.sha256, byte_size=put.byte_size))
    return StoredFiles(prefix=prefix, files=stored)
