"""Where the parts of a stack write what they have to say: one file each, straight from the child.

A pipe through the supervisor would block every child when nobody reads the supervisor's output.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: A file larger than this is put aside at the next start of its part, over the one put aside before.
_ROTATE_BYTES = 16 * 1024 * 1024
_TAIL_BYTES = 4096


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Yield a file descriptor to append to."""
    if path.exists() and path.stat().st_size > _ROTATE_BYTES:
        path.replace(path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_last_line(path: Path) -> str:
    """Give the last line that says something, or an empty text."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
