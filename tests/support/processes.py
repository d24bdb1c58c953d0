"""Conditions on processes, to wait on instead of sleeping."""

import asyncio
from collections.abc import Callable
from pathlib import Path


async def until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Return as soon as ``condition`` holds; fail after ``within_s``."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not condition():
        assert loop.time() < deadline, f"{condition} did not come true within {within_s:g} s"
        await asyncio.sleep(0.005)


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def command_line(pid: int) -> list[str]:
    """The arguments of a process; none if it has ended."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rstrip("\0").split("\0")
