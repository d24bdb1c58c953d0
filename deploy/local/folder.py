"""The data folder: one place for everything a local stack keeps, and one stack at a time in it."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.errors import WrongUse

_LOCK_NAME = "lock"


class DataFolder:
    """Where the parts of a local stack keep their things. Nothing is created before `held`."""

    def __init__(self, path: Path) -> None:
        # Children run with other working folders, and PostgreSQL wants to know itself by one name.
        self.path = path.absolute()

    @property
    def postgres(self) -> Path:
        """The cluster, its socket and its passwords."""
        return self.path / "postgres"

    @property
    def nats(self) -> Path:
        """The bus; its streams lie in ``jetstream`` below."""
        return self.path / "nats"

    @property
    def objects(self) -> Path:
        """Uploads and results."""
        return self.path / "objects"

    def cache(self, name: str) -> Path:
        """Where a worker may keep what it could fetch again."""
        return self.path / "cache" / name

    @property
    def _endpoints(self) -> Path:
        return self.path / "secrets" / "endpoints.json"

    def log(self, name: str) -> Path:
        """Where a part's own words go."""
        return self.path / "logs" / f"{name}.log"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Create the folder where it is missing and keep every other stack out of it.

        The lock is the kernel's: it ends with this process, however that ends.

        Raises:
            WrongUse: another stack runs in it, or it can't be written to.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WrongUse(
                f"the data folder {self.path} can't be written to ({error.strerror}): "
                "choose another with --data-dir, or change its owner"
            ) from error
        with os.fdopen(descriptor, "r+", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = lock.read().strip() or "unknown"
                raise WrongUse(
                    f"the data folder {self.path} is in use by another towhee-api up (process {holder}): "
                    "stop that one, or choose another folder with --data-dir"
                ) from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self._ensure_folders()
            yield
            self.forget_endpoints()

    def _ensure_folders(self) -> None:
        try:
            for folder in (self.objects, self._endpoints.parent, self.log("any").parent):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise WrongUse(
                f"{error.filename} can't be created ({error.strerror}): change the owner of {self.path}"
            ) from error

    def write_endpoints(self, endpoints: Mapping[str, str]) -> None:
        """Tell other commands where the running services are; the addresses hold passwords."""
        partial = self._endpoints.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(dict(endpoints), file)
        partial.replace(self._endpoints)

    def forget_endpoints(self) -> None:
        """Nothing of this stack runs any more."""
        with suppress(OSError):
            self._endpoints.unlink(missing_ok=True)

    def read_endpoints(self) -> dict[str, str]:
        """Give the addresses of the stack that runs in this folder, by environment variable.

        Raises:
            WrongUse: none runs here, or it is somebody else's.
        """
        try:
            with (self.path / _LOCK_NAME).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with suppress(OSError, ValueError):
                endpoints: dict[str, str] = json.loads(self._endpoints.read_text(encoding="utf-8"))
                return endpoints
        except OSError:
            pass
        # Free, or missing: the addresses a killed stack left behind lead nowhere.
        raise WrongUse(
            f"no stack of yours is up in {self.path}: start one with towhee-api up --data-dir {self.path}"
        )
