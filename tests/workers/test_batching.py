"""Cutting batches: within the budget, little padding, nobody starves."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.embed.batching import Batch, BatchLimits, Unit, Window
from workers.embed.items import Lane, Matrix, Prepared, Refusal


class Caller:
    """Waits for units until it gives up."""

    def __init__(self) -> None:
        self.wanted = True
        self.expired = 0

    def is_wanted(self, now: float) -> bool:
        return self.wanted

    def take(self, index: int, row: Matrix | Refusal, compute_s: float) -> None:
        raise AssertionError("nothing is computed here")

    def expire(self) -> None:
        self.expired += 1


class Arrivals:
    """Adds units to a window in order of arrival."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self.units: list[Unit] = []

    def add(
        self, length: int, pipeline: str = "a", lane: Lane = Lane.BULK, caller: Caller | None = None
    ) -> Unit:
        unit = Unit(
            prepared=Prepared(None, length),
            owner=caller or Caller(),
            index=len(self.units),
            arrived=len(self.units),
        )
        self.units.append(unit)
        self._window.add(pipeline, lane, unit)
        return unit


def drain(window: Window) -> list[Batch]:
    batches = []
    while (batch := window.next_batch(0.0)[0]) is not None:
        batches.append(batch)
    return batches


lengths = st.lists(st.integers(1, 256), min_size=1, max_size=60)


@given(lengths, st.integers(16, 1024), st.integers(1, 40))
def test_no_batch_exceeds_the_budget_and_every_unit_comes_once(
    lengths: list[int], tokens: int, window: int
) -> None:
    limits = BatchLimits(tokens=tokens, window=window)
    waiting = Window(limits)
    arrivals = Arrivals(waiting)
    for length in lengths:
        arrivals.add(length)

    batches = drain(waiting)

    assert all(batch.padded_tokens <= tokens or len(batch.units) == 1 for batch in batches)
    assert Counter(unit.index for unit in arrivals.units) == Counter(
        unit.index for batch in batches for unit in batch.units
    )


@given(lengths)
def test_each_batch_takes_the_one_that_has_waited_longest_so_nobody_starves(lengths: list[int]) -> None:
    waiting = Window(BatchLimits(tokens=300))
    arrivals = Arrivals(waiting)
    for length in lengths:
        arrivals.add(length)
    left = list(arrivals.units)
    for batch in drain(waiting):
        assert left[0] in batch.units
        left = [unit for unit in left if unit not in batch.units]


@given(lengths)
def test_no_row_is_padded_by_more_than_a_quarter_or_eight_tokens(lengths: list[int]) -> None:
    waiting = Window(BatchLimits())
    arrivals = Arrivals(waiting)
    for length in lengths:
        arrivals.add(length)
    for batch in drain(waiting):
        found = [unit.prepared.length for unit in batch.units]
        assert max(found) - min(found) <= max(8, max(found) // 4)


def test_short_and_long_texts_in_turn_are_sorted_apart() -> None:
    """Half of 10 tokens, half of 125, in turn: 34 batches in order of arrival, and half of it padding."""
    waiting = Window(BatchLimits(tokens=512))
    arrivals = Arrivals(waiting)
    for _ in range(32):
        arrivals.add(10)
        arrivals.add(125)

    batches = drain(waiting)

    assert [1] * 9 == sorted(len({unit.prepared.length for unit in batch.units}) for batch in batches)
    assert 0 == sum(batch.padded_tokens for batch in batches) - 32 * 135


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(list(Lane))), min_size=1, max_size=40))
def test_a_batch_has_one_pipeline_and_one_lane(kinds: list[tuple[str, Lane]]) -> None:
    waiting = Window(BatchLimits())
    arrivals = Arrivals(waiting)
    belongs = {}
    for pipeline, lane in kinds:
        belongs[arrivals.add(10, pipeline, lane).index] = (pipeline, lane)
    for batch in drain(waiting):
        assert {(batch.pipeline, batch.lane)} == {belongs[unit.index] for unit in batch.units}


def test_interactive_goes_before_bulk_that_came_earlier() -> None:
    waiting = Window(BatchLimits())
    arrivals = Arrivals(waiting)
    arrivals.add(10, lane=Lane.BULK)
    arrivals.add(10, lane=Lane.INTERACTIVE)
    assert [Lane.INTERACTIVE, Lane.BULK] == [batch.lane for batch in drain(waiting)]


def test_bulk_gets_one_batch_in_five_while_interactive_work_keeps_coming() -> None:
    waiting = Window(BatchLimits(tokens=10, bulk_every=5))
    arrivals = Arrivals(waiting)
    for _ in range(40):
        arrivals.add(10, lane=Lane.INTERACTIVE)
        arrivals.add(10, lane=Lane.BULK)
    first = [batch.lane for batch in drain(waiting)[:20]]
    assert 4 == first.count(Lane.BULK)


def test_pipelines_of_a_lane_take_turns_by_age() -> None:
    waiting = Window(BatchLimits(tokens=10))
    arrivals = Arrivals(waiting)
    for pipeline in ["a", "b", "b", "a"]:
        arrivals.add(10, pipeline)
    assert ["a", "b", "b", "a"] == [batch.pipeline for batch in drain(waiting)]


def test_what_nobody_waits_for_is_dropped_before_it_is_computed() -> None:
    waiting = Window(BatchLimits())
    arrivals = Arrivals(waiting)
    gone, here = Caller(), Caller()
    dropped_unit = arrivals.add(10, caller=gone)
    kept = arrivals.add(10, caller=here)
    gone.wanted = False

    batch, dropped = waiting.next_batch(0.0)

    assert [dropped_unit] == dropped
    assert batch is not None
    assert [kept] == batch.units
    assert (None, []) == waiting.next_batch(0.0)


@pytest.mark.parametrize(("count", "expected"), [(3, False), (4, True)])
def test_a_full_batch_is_told_from_a_small_one(count: int, expected: bool) -> None:
    waiting = Window(BatchLimits(tokens=40))
    arrivals = Arrivals(waiting)
    for _ in range(count):
        arrivals.add(10)
    assert expected == waiting.has_full_batch


#: Each step: units that come for either lane before the next batch is cut.
arrivals_by_step = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=80)


@given(arrivals_by_step, st.integers(2, 8))
def test_whatever_comes_interactive_goes_first_and_bulk_keeps_its_floor(
    steps: list[tuple[int, int]], bulk_every: int
) -> None:
    waiting = Window(BatchLimits(tokens=10, bulk_every=bulk_every))
    arrivals = Arrivals(waiting)
    num_waiting = dict.fromkeys(Lane, 0)
    num_passed_over = dict.fromkeys(Lane, 0)
    for num_interactive, num_bulk in steps:
        for lane, number in ((Lane.INTERACTIVE, num_interactive), (Lane.BULK, num_bulk)):
            num_waiting[lane] += number
            for _ in range(number):
                arrivals.add(10, lane=lane)
        batch, _ = waiting.next_batch(0.0)
        assert (batch is None) == (sum(num_waiting.values()) == 0)
        for lane in Lane:
            is_passed_over = batch is not None and batch.lane != lane and num_waiting[lane] > 0
            num_passed_over[lane] = num_passed_over[lane] + 1 if is_passed_over else 0
        if batch is not None:
            num_waiting[batch.lane] -= len(batch.units)
        assert num_passed_over[Lane.BULK] < bulk_every
        assert num_passed_over[Lane.INTERACTIVE] <= 1
