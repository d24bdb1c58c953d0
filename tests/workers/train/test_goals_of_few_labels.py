"""What CI checks of the report's rows on semi-supervised learning."""

import pytest

from tests.workers.train.goals import missed_goals
from workers.train.evidence import semi_supervised


@pytest.mark.goal
def test_fixmatch_meets_its_goal_with_100_labels_in_fewer_steps() -> None:
    row = "semi-supervised FixMatch mnist"

    assert {} == missed_goals(semi_supervised.rows, row, options={"max_steps": 700})
