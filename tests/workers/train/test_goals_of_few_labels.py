"""What CI checks of the report's rows with 100 labels."""

import pytest

from tests.workers.train.goals import missed_goals
from workers.train.evidence import semi_supervised


@pytest.mark.goal
@pytest.mark.parametrize(("method", "steps"), [("FixMatch", 700), ("Mean Teacher", 400)])
def test_a_method_meets_its_goal_with_100_labels_in_fewer_steps(method: str, steps: int) -> None:
    row = f"semi-supervised {method} mnist"

    assert {} == missed_goals(semi_supervised.rows, row, options={"max_steps": steps})
