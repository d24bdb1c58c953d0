"""A short fixed set of the fault harness's rounds; `make faults` runs as many as one likes.

The tests are not coroutines: one stack lives in one event loop of its own, from the first to the last.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness.results import Line, find_commit
from tests.faults.harness.rounds import Arenas

ROOT = Path(__file__).parents[2]
SEED = 1_000
#: One round in which everything took longer, for other work on the machine, says nothing about the bound.
TRIES = 3


class Rounds:
    """Runs rounds one after the other on stacks that stay up between them."""

    def __init__(self, runner: asyncio.Runner, arenas: Arenas) -> None:
        self._runner = runner
        self._arenas = arenas

    def run(self, kind: str, *, seed: int = SEED) -> Line:
        """Return what became of one round."""
        return self._runner.run(self._run(kind, seed))

    async def _run(self, kind: str, seed: int) -> Line:
        arena = await self._arenas.get(kind)
        line = await arena.run(seed, commit=find_commit(ROOT), name=kind)
        if not line.is_ok:
            await self._arenas.discard(kind)
        return line


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounds]:
    """Stacks that are started when a round needs them."""
    with asyncio.Runner() as runner:
        arenas = Arenas(tmp_path_factory.mktemp("faults"))
        yield Rounds(runner, arenas)
        runner.run(arenas.close())


@pytest.mark.parametrize(
    "kind",
    [
        "server killed",
        "server drained",
        "bus killed",
        "bus frozen",
        "database killed",
        "object store failing",
        "server cut off from the bus",
        "bus node killed",
    ],
)
def test_nothing_is_lost_doubled_or_stuck(rounds: Rounds, kind: str) -> None:
    assert [] == rounds.run(kind).problems


@pytest.mark.parametrize(("kind", "most_s"), [("worker killed", 20.0), ("worker drained", 1.0)])
def test_the_work_of_a_worker_that_leaves_is_taken_over_in_time(
    rounds: Rounds, kind: str, most_s: float
) -> None:
    times = []
    for seed in range(SEED, SEED + TRIES):
        line = rounds.run(kind, seed=seed)
        assert [] == line.problems
        assert line.takeover_s is not None
        times.append(line.takeover_s)
        if line.takeover_s <= most_s:
            break

    assert min(times) <= most_s


def test_fifty_open_jobs_outlive_the_loss_of_everything_on_the_bus(rounds: Rounds) -> None:
    line = rounds.run("bus emptied")

    assert [] == line.problems
    assert line.open_jobs >= 50


def test_a_training_that_loses_its_worker_ends_with_the_very_same_model(rounds: Rounds) -> None:
    line = rounds.run("training: worker killed")

    assert [] == line.problems
    assert line.attempts >= 2
