"""What Linux says of other processes (proc(5)); of one that has ended, nothing."""

import os
from pathlib import Path

_KIB = 1024
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process, and all that it and they have started on their main threads."""
    try:
        started = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        started = []
    return [pid, *(each for child in started for each in family(int(child)))]


def memory_bytes(pid: int) -> int:
    """Memory that is a process's own; files that it has mapped can be given up, and count for nobody."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    lines = (line.split() for line in status.splitlines())
    own = {"RssAnon:", "RssShmem:", "VmSwap:"}
    return sum(int(words[1]) * _KIB for words in lines if words and words[0] in own)


def computed(pid: int) -> float:
    """Seconds that a process has computed."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    # The name of the command, in parentheses, may hold anything; utime and stime are the 12th and 13th after.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS
