"""Every test here computes in one thread, which is faster for small nets and the same on every machine.

Tests marked ``goal`` meet goals of the report on its real sets. Those of one file, that is of one trainer,
should take no more than `_BUDGET_S` CPU-seconds together, so that all are done in CI in eight minutes.
What they took is said at the end and not asserted: a busy machine's CPU-seconds do less.
"""

import os
from collections import defaultdict
from collections.abc import Iterator

import pytest
import torch

_BUDGET_S = 80
_SPENT = pytest.StashKey[defaultdict[str, float]]()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _count_goals(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("goal") is None:
        yield
        return
    spent = request.config.stash.setdefault(_SPENT, defaultdict(float))
    before = _cpu_s()
    yield
    spent[request.path.name] += _cpu_s() - before


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what the goals cost."""
    for file, seconds in sorted(config.stash.get(_SPENT, {}).items()):
        terminalreporter.write_line(f"goals of {file}: {seconds:.0f} of {_BUDGET_S} CPU-seconds")


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
