"""What is broken is told of by its row, or as a whole; nothing is raised, nothing written elsewhere."""

import re
from pathlib import Path

import pytest

from tests.workers.train.datasets.broken import BROKEN, Broken
from tests.workers.train.datasets.making import look
from workers.train.datasets import Issue


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_data_set_is_told_of_by_its_row_and_leaves_nothing_elsewhere(
    broken: Broken, tmp_path: Path
) -> None:
    """The first issue says what and where; good rows are kept, and of an unusable set no file is left."""
    before = set(Path("/tmp").glob("outside*"))  # noqa: S108  where the archives try to write

    found = look(tmp_path, broken.name, broken.content())

    assert Issue(broken.row, broken.message) == found.issues[0]
    assert broken.is_usable == found.is_usable
    assert {"sent", "prepared"} == {path.name for path in tmp_path.iterdir()}
    assert before == set(Path("/tmp").glob("outside*"))  # noqa: S108
    kept = {path.name for path in (tmp_path / "prepared").iterdir()}
    assert bool(kept) == broken.is_usable
    assert all(len(issue.message) <= 160 for issue in found.issues)
    assert not [issue for issue in found.issues if re.search(r"Error|Traceback", issue.message)]


def test_issues_are_counted_beyond_those_that_are_told(tmp_path: Path) -> None:
    """The first thousand are kept with their rows."""
    rows = [f"text {at},label" for at in range(1, 1600)] + ["a,b,c"] * 1500
    content = ("text,label\n" + "\n".join(rows)).encode()

    found = look(tmp_path, "a.csv", content)

    assert (found.is_usable, 1599, 1501, 1000) == (True, found.num_rows, found.num_issues, len(found.issues))
    assert 1600 == found.issues[0].row
