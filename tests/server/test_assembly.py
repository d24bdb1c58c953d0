import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.messages import ItemError, VectorsComputed
from server.assembly import Assembly, MalformedAnswer

DIMENSION = 3


def _chunk(
    first_index: int, count: int, *, marker: float = 0.0, failed: tuple[int, ...] = ()
) -> VectorsComputed:
    """Rows whose numbers tell their index, so that a row in the wrong place shows."""
    rows = np.arange(first_index, first_index + count, dtype="<f4")[:, None] + np.zeros(DIMENSION, "<f4")
    return VectorsComputed(
        request_id="r",
        first_index=first_index,
        count=count,
        dimension=DIMENSION,
        vectors=(rows + np.float32(marker)).tobytes(),
        truncated=[index % 2 == 0 for index in range(first_index, first_index + count)],
        tokens=list(range(first_index, first_index + count)),
        failures=[ItemError(index=index, code="INVALID_INPUT", message="no picture") for index in failed],
        compute_s=float(count),
    )


@st.composite
def _deliveries(draw: st.DrawFn) -> tuple[int, list[VectorsComputed]]:
    """Chunks that together cover every row, cut in several ways, shuffled, some of them twice."""
    count = draw(st.integers(1, 40))
    chunks = []
    for _ in range(draw(st.integers(1, 3))):
        cuts = sorted({0, count, *draw(st.lists(st.integers(0, count), max_size=6))})
        chunks += [_chunk(start, stop - start) for start, stop in itertools.pairwise(cuts)]
    repeated = draw(st.lists(st.sampled_from(chunks), max_size=5))
    return count, draw(st.permutations(chunks + repeated))


@given(_deliveries())
def test_rows_end_up_at_their_index_in_any_order_and_however_often_they_come(
    delivery: tuple[int, list[VectorsComputed]],
) -> None:
    count, chunks = delivery
    assembly = Assembly(count, DIMENSION)

    for chunk in chunks:
        assembly.add(chunk)

    assert assembly.is_complete
    assert list(range(count)) == assembly.vectors[:, 0].tolist()
    assert list(range(count)) == assembly.tokens
    assert [index % 2 == 0 for index in range(count)] == assembly.truncated
    # One second a row in every chunk: rows that came twice are paid once.
    assert count == pytest.approx(assembly.compute_s)


@given(_deliveries(), st.data())
def test_it_is_complete_only_when_the_last_row_is_there(
    delivery: tuple[int, list[VectorsComputed]], data: st.DataObject
) -> None:
    count, chunks = delivery
    withheld = data.draw(st.integers(0, count - 1))
    assembly = Assembly(count, DIMENSION)

    for chunk in chunks:
        if not chunk.first_index <= withheld < chunk.first_index + chunk.count:
            assembly.add(chunk)
    assert not assembly.is_complete

    assembly.add(_chunk(0, count))
    assert assembly.is_complete


def test_the_first_row_that_arrives_stays() -> None:
    assembly = Assembly(3, DIMENSION)
    assembly.add(_chunk(1, 1))

    assembly.add(_chunk(0, 3, marker=100.0))

    assert [100.0, 1.0, 102.0] == assembly.vectors[:, 0].tolist()


def test_a_failure_is_kept_under_its_index_unless_the_row_had_arrived() -> None:
    assembly = Assembly(3, DIMENSION)
    assembly.add(_chunk(0, 1))

    assembly.add(_chunk(0, 3, failed=(0, 2)))

    assert [2] == list(assembly.failures)


@pytest.mark.parametrize(
    "chunk",
    [
        _chunk(2, 2),
        _chunk(-1, 2),
        VectorsComputed(
            request_id="r",
            first_index=0,
            count=1,
            dimension=2,
            vectors=bytes(8),
            truncated=[False],
            tokens=[0],
        ),
        VectorsComputed(
            request_id="r",
            first_index=0,
            count=2,
            dimension=3,
            vectors=bytes(12),
            truncated=[False] * 2,
            tokens=[0, 0],
        ),
        VectorsComputed(
            request_id="r", first_index=0, count=1, dimension=3, vectors=bytes(12), truncated=[], tokens=[0]
        ),
        _chunk(0, 1, failed=(2,)),
    ],
    ids=["past the end", "before the start", "dimension", "bytes", "lists", "failure elsewhere"],
)
def test_rows_that_do_not_fit_are_refused(chunk: VectorsComputed) -> None:
    assembly = Assembly(3, DIMENSION)

    with pytest.raises(MalformedAnswer):
        assembly.add(chunk)

    assert not assembly.is_complete
