"""How a batch is shared among processes. Trainings that do so are in ``service/test_crews.py``."""

from hypothesis import given
from hypothesis import strategies as st

from workers.train.together import num_processes


@given(batch_size=st.integers(1, 4096), available=st.integers(1, 16))
def test_every_process_has_the_same_part_of_a_batch_and_enough_to_do(batch_size: int, available: int) -> None:
    count = num_processes(batch_size, available)

    assert 1 <= count <= available
    assert 0 == batch_size % count
    assert 1 == count or batch_size // count >= 8


def test_as_many_processes_train_as_can_share_the_batch() -> None:
    assert [8, 7, 2, 1] == [num_processes(batch_size, 8) for batch_size in (64, 63, 20, 97)]
