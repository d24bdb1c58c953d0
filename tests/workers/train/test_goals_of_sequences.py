"""What CI checks of the report's rows on recurrent networks."""

import pytest

from tests.workers.train.goals import missed_goals
from workers.train.evidence import rnn


@pytest.mark.goal
@pytest.mark.parametrize(
    ("row", "steps"),
    [
        ("rnn sequence to sequence, attention, LSTM phonemes", 500),
        ("rnn tagger, bidirectional LSTM brown", 1100),
    ],
)
def test_the_goals_on_words_and_sentences_are_met_in_fewer_steps(row: str, steps: int) -> None:
    assert {} == missed_goals(rnn.rows, row, options={"max_steps": steps})
