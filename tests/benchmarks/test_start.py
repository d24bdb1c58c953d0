"""Seconds from start to usable, with everything installed."""

import statistics
import time
from pathlib import Path

import pytest

from tests.benchmarks.measuring import surroundings
from tests.support.script import Script
from tests.support.servers import second_server
from tests.support.stack import RunningStack, running_stack

pytestmark = pytest.mark.bench

ROUNDS = 5


def test_from_start_to_ready(towhee_api: Script, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    figures = []
    # The first round makes the data folder; it is shown, not counted.
    for _ in range(1 + ROUNDS):
        started = time.perf_counter()
        with running_stack(towhee_api, data_dir) as stack:
            assert stack.url
            figures.append(time.perf_counter() - started)

    counted = figures[1:]
    print(f"\ntowhee-api up to ready, {ROUNDS} rounds; {surroundings()}")
    print(f"  new data folder  {figures[0]:5.1f} s")
    print(f"  median           {statistics.median(counted):5.1f} s   (at most {max(counted):.1f} s)")


async def test_the_server_alone(towhee_api: Script, stack: RunningStack) -> None:
    figures = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        async with second_server(towhee_api, stack):
            figures.append(time.perf_counter() - started)

    print(f"\ntowhee-api serve to ready, {ROUNDS} rounds; {surroundings()}")
    print(f"  median           {statistics.median(figures):5.1f} s   (at most {max(figures):.1f} s)")
