"""Stand between the supervisor and a child just long enough to tie their lives together, then exec.

Run as a file, ``python -I -S launch.py PARENT_PID DEATH_SIGNAL USER ARGV...``, so that nothing of the
project is imported. The order is prescribed by prctl(2): changing the user clears the parent-death
signal, so privileges are dropped first; and a parent that died before the call sends nothing any more,
so it is looked at afterwards.
"""

import ctypes
import os
import pwd
import sys
import warnings  # noqa: F401 - os.execvp imports it late, when another user may not read our interpreter

PR_SET_PDEATHSIG = 1
#: What a shell answers when it cannot execute a command.
CANNOT_EXECUTE = 126


def _become(user: str) -> None:
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def _die_with(parent_pid: int, death_signal: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl: {os.strerror(code)}")
    if os.getppid() != parent_pid:
        sys.exit(0)


def main(argv: list[str]) -> None:
    """Become ``USER`` if one is named, die with ``PARENT_PID``, run ``ARGV``."""
    parent_pid, death_signal, user, *command = argv
    try:
        if user:
            _become(user)
        _die_with(int(parent_pid), int(death_signal))
        os.execvp(command[0], command)  # noqa: S606 - there is no shell, which is the point
    except (OSError, KeyError) as error:
        sys.stderr.write(f"{command[0]}: {error}\n")
        sys.exit(CANNOT_EXECUTE)


if __name__ == "__main__":
    main(sys.argv[1:])
