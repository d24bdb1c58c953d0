"""Which rows are for tests."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.train.datasets.making import look, table
from workers.train.datasets import open_prepared


def _tests_of(tmp_path: Path, rows: list[str]) -> set[str]:
    tmp_path.mkdir(exist_ok=True)
    look(tmp_path, "a.csv", table("text,label", *rows))
    return set(open_prepared(tmp_path / "prepared").texts("test"))


def test_a_row_goes_where_it_goes_whatever_the_order(tmp_path: Path) -> None:
    """A shuffled file has the same rows for tests, about a tenth of each class."""
    rows = [f"text {at},{'abc'[at % 3]}" for at in range(3000)]
    shuffled = random.Random(7).sample(rows, len(rows))  # noqa: S311  a fixed order

    tests = _tests_of(tmp_path / "one", rows)

    assert tests == _tests_of(tmp_path / "other", shuffled)
    counts = Counter(int(text.split()[1]) % 3 for text in tests)
    assert all(60 <= counts[label] <= 140 for label in range(3))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_each_class_of_ten_rows_has_one_for_tests_and_smaller_ones_have_all_for_training(
    tmp_path_factory: pytest.TempPathFactory, seed: int, sizes: list[int]
) -> None:
    """So that no class is measured that could not be learned; but something is always measured."""
    rows = [f"{seed} {name} {at},{name}" for name, size in enumerate(sizes) for at in range(size)]
    if len(rows) < 4:
        return

    tests = _tests_of(tmp_path_factory.mktemp("split"), rows)

    counts = Counter(int(text.split()[1]) for text in tests)
    large = [name for name, size in enumerate(sizes) if size >= 10]
    if large:
        assert set(large) == set(counts)
    else:
        assert 1 == len(tests)
    assert all(counts[name] < sizes[name] for name in counts if sizes[name] > 1)


def test_a_table_says_its_splits(tmp_path: Path) -> None:
    """Then nothing is drawn."""
    rows = [f"text {at},a,{'dev' if at in (3, 5) else 'Train'}" for at in range(30)]

    look(tmp_path, "a.csv", table("text,label,split", *rows))

    assert ["text 3", "text 5"] == open_prepared(tmp_path / "prepared").texts("test")
