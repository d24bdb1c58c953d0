"""What the whole of it costs while nobody asks anything."""

import os
import time

import psutil
import pytest

from tests.benchmarks.measuring import surroundings
from tests.support.stack import RunningStack

pytestmark = pytest.mark.bench

#: Caches fill and the first statistics are taken before anything is counted.
SETTLE_S = 10.0
PERIOD_S = float(os.environ.get("BENCH_IDLE_S", "60"))


def _cpu_s(stack: RunningStack) -> dict[tuple[int, str], float]:
    """CPU seconds of each process so far."""
    found = {}
    for process in [psutil.Process(stack.pid), *stack.processes()]:
        try:
            times, words = process.cpu_times(), process.cmdline()
        except psutil.NoSuchProcess:
            continue
        # PostgreSQL pads what it calls itself with blanks.
        found[process.pid, " ".join(" ".join(words).split())[-60:]] = times.user + times.system
    return found


def test_an_idle_stack(stack: RunningStack) -> None:
    assert stack.url
    time.sleep(SETTLE_S)
    before = _cpu_s(stack)
    time.sleep(PERIOD_S)
    after = _cpu_s(stack)

    shares = {key: 100 * (after[key] - before.get(key, 0.0)) / PERIOD_S for key in after}
    print(f"\nidle for {PERIOD_S:g} s, in percent of one core; {surroundings()}")
    for (_, words), share in sorted(shares.items(), key=lambda item: -item[1]):
        if share > 0:
            print(f"  {share:6.2f}  {words}")
    print(f"  {sum(shares.values()):6.2f}  all of it")
