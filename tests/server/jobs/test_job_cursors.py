"""Cursors of job history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import InvalidInput
from server.job_cursors import START, Position, decode_cursor

positions = st.builds(Position, seq=st.integers(0, 10**18 - 1), offset=st.integers(0, 10**9 - 1))


@given(positions)
def test_a_cursor_leads_back_to_its_position(position: Position) -> None:
    assert position == decode_cursor(position.encode())


@given(st.text(max_size=40))
def test_whatever_is_no_cursor_is_named_as_the_argument_after(text: str) -> None:
    try:
        position = decode_cursor(text)
    except InvalidInput as error:
        refusal = error
    else:
        assert text == position.encode()
        return
    assert ("after",) == refusal.path


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "1.0",
        "MS4w\n",  # "1.0" with a newline behind it
        "M S4w",
        "MDEuMA==",  # "01.0"
        "LTEuMA==",  # "-1.0"
        "MTAwMDAwMDAwMDAwMDAwMDAwMC4w",  # past what the column holds
        "\ud800",
        "MS4w" * 10_000,
    ],
)
def test_a_near_miss_is_refused(malformed: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        decode_cursor(malformed)
    assert ("after",) == refusal.value.path


def test_no_cursor_is_the_start() -> None:
    assert START == decode_cursor(None)


@given(positions, positions)
def test_positions_are_ordered_as_the_history_is(one: Position, other: Position) -> None:
    assert ((one.seq, one.offset) < (other.seq, other.offset)) == (one < other)
