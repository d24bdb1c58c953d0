"""Where a train worker keeps what it works on, so that nothing of it is left behind."""

import fcntl
import os
import shutil
import tempfile
from itertools import count
from pathlib import Path

_PREFIX = "towhee-train-"
_LOCK = "lock"


class Folders:
    """Folders of jobs, gone with their jobs, or with the worker.

    The folder of a worker that was killed is removed by the next one that starts beside it.

    Args:
        cache: where fetched files are kept over restarts; None: no longer than the worker lives.
    """

    def __init__(self, cache: Path | None) -> None:
        base = cache or Path(tempfile.gettempdir())
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_left_behind(base)
        self._own = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        self._lock: int | None = os.open(self._own / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._numbers = count(1)
        #: Where fetched files are kept; on the same file system as the folders of jobs.
        self.files = (cache or self._own) / "files"
        self.files.mkdir(mode=0o700, exist_ok=True)

    def make(self) -> Path:
        """Make an empty folder for one child and its task."""
        folder = self._own / f"task-{next(self._numbers)}"
        folder.mkdir(mode=0o700)
        return folder

    def close(self) -> None:
        """Remove what jobs have left."""
        shutil.rmtree(self._own, ignore_errors=True)
        if self._lock is not None:
            lock, self._lock = self._lock, None
            os.close(lock)


def _remove_left_behind(base: Path) -> None:
    for folder in base.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:
            # Somebody else's, or being made at this moment.
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
