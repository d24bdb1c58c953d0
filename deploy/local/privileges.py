"""Run one program as an unprivileged user when we are root.

PostgreSQL refuses to run as root. Its folders may lie below one that only root may enter (a home
folder, a temporary folder), and opening those to everybody is not ours to do: then the program keeps
one capability that lets it look through them, and nothing else of root.

The launcher part of this module is run as a script and imports the standard library alone.
"""

import ctypes
import os
import pwd
import signal
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Capability numbers of linux/capability.h.
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522


class CannotReach(Exception):
    """The unprivileged user can't be given access to a folder."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whom a program runs as, and the one capability it keeps, if any."""

    uid: int
    gid: int
    capability: int | None = None


def find_identity(*, reach: Sequence[Path], run: Path) -> Identity | None:
    """Choose whom to run as: None (ourselves) unless we are root.

    Args:
        reach: existing folders the program has to enter.
        run: the program itself.

    Raises:
        CannotReach: a folder is closed to the unprivileged user, and we may not pass the capability on.
    """
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    plain = Identity(uid=nobody.pw_uid, gid=nobody.pw_gid)
    closed = [path for path in (*reach, run) if not _is_open(path.resolve())]
    if not closed:
        return plain
    held = _held_capabilities()
    wanted = [_CAP_DAC_OVERRIDE]
    if run.stat().st_mode & stat.S_IXOTH:
        # Reading and searching is enough, and can't change anything.
        wanted.insert(0, _CAP_DAC_READ_SEARCH)
    for capability in wanted:
        if held & (1 << capability):
            return Identity(uid=plain.uid, gid=plain.gid, capability=capability)
    raise CannotReach(f"{closed[0]} can't be entered by the user `nobody`, which PostgreSQL runs as")


def launcher(identity: Identity | None, *, death_signal: signal.Signals | None = None) -> list[str]:
    """Return what to put before a command line so that it runs as ``identity``.

    Changing the user clears the parent-death signal, so one that is wanted is set here, afterwards.
    """
    if identity is None:
        return []
    capability = -1 if identity.capability is None else identity.capability
    numbers = (identity.uid, identity.gid, capability, int(death_signal or 0), os.getpid())
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *map(str, numbers)]


def _is_open(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def _held_capabilities() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except FileNotFoundError:
        # No capabilities on this system.
        return 0
    line = next(line for line in status.splitlines() if line.startswith("CapPrm:"))
    return int(line.split()[1], 16)


def _prctl(libc: ctypes.CDLL, option: int, *values: int) -> None:
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    if libc.prctl(option, *arguments) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _keep(libc: ctypes.CDLL, capability: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    bit = 1 << capability
    # Two groups of effective, permitted, inheritable; both capabilities are in the first.
    data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset failed")
    _prctl(libc, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def main(arguments: Sequence[str]) -> None:
    """Become the user and then the program: ``uid gid capability death-signal parent-pid program ...``."""
    uid, gid, capability, death_signal, parent = (int(value) for value in arguments[:5])
    command = list(arguments[5:])
    libc = ctypes.CDLL(None, use_errno=True)
    os.setgroups([])
    os.setgid(gid)
    if capability >= 0:
        _prctl(libc, _PR_SET_KEEPCAPS, 1)
    os.setuid(uid)
    if capability >= 0:
        _keep(libc, capability)
    if death_signal:
        _prctl(libc, _PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:
            # The parent died before the signal was asked for.
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - becoming the program is the point


if __name__ == "__main__":
    main(sys.argv[1:])
