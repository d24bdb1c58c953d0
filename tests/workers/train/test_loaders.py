"""Loaders give every row once an epoch and can be stopped and put up again anywhere."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from workers.train.data import (
    DatasetLoader,
    InMemoryLoader,
    LoadPlan,
    PairedLoader,
    Ragged,
    RaggedLoader,
    ReplayLoader,
)
from workers.train.data.augment import shift
from workers.train.data.collate import pad_samples
from workers.train.rng import capture_rng, restore_rng


def flat(batches: list[Any]) -> list[int]:
    return [int(value) for batch in batches for value in (batch[0] if isinstance(batch, tuple) else batch)]


@given(
    rows=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    world_size=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_processes_share_each_global_batch_as_one_process_would_see_it(
    rows: int, batch_size: int, world_size: int, seed: int
) -> None:
    if rows < world_size:
        return
    data = torch.arange(rows)
    whole = list(InMemoryLoader(data, LoadPlan(batch_size * world_size, seed=seed)))
    shares = [
        list(InMemoryLoader(data, LoadPlan(batch_size, seed=seed, rank=rank, world_size=world_size)))
        for rank in range(world_size)
    ]

    assert 1 == len({len(share) for share in shares})
    for number in range(len(shares[0])):
        seen = [value for share in shares for value in share[number].tolist()]
        assert seen == whole[number].tolist()[: len(seen)]
        assert len(whole[number]) - len(seen) < world_size


@given(rows=st.integers(1, 40), batch_size=st.integers(1, 9), world_size=st.integers(1, 4))
def test_evaluation_deals_out_every_row_once(rows: int, batch_size: int, world_size: int) -> None:
    seen = [
        value
        for rank in range(world_size)
        for value in flat(
            list(
                InMemoryLoader(
                    torch.arange(rows),
                    LoadPlan(batch_size, shuffle=False, rank=rank, world_size=world_size, uneven=True),
                )
            )
        )
    ]

    assert list(range(rows)) == sorted(seen)


class Rows(Dataset[Any]):
    """Numbers, with noise from torch's own generator."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, row: int) -> Tensor:
        return torch.tensor([row, int(torch.randint(1000, ()))])


class Stream(IterableDataset[Any]):
    """Numbers with noise, and no length."""

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.tensor([row, int(torch.randint(1000, ()))]) for row in range(23))


def _noisy(batch: Tensor, generator: torch.Generator) -> Tensor:
    return batch + torch.randint(1000, batch.shape, generator=generator) * 100


def _ragged() -> dict[str, Any]:
    return {"ids": Ragged.of([[row] * (row % 7 + 1) for row in range(23)]), "y": torch.arange(23)}


LOADERS: dict[str, Callable[[], Any]] = {
    "memory": lambda: InMemoryLoader(torch.arange(23), LoadPlan(4), _noisy),
    "ragged": lambda: RaggedLoader(_ragged(), LoadPlan(4), window=2),
    "dataset": lambda: DatasetLoader(Rows(), LoadPlan(4)),
    "dataloader": lambda: ReplayLoader(DataLoader(Rows(), batch_size=4, shuffle=True)),
    "stream": lambda: ReplayLoader(DataLoader(Stream(), batch_size=4)),
    "paired": lambda: PairedLoader(
        InMemoryLoader(torch.arange(5), LoadPlan(2)), InMemoryLoader(torch.arange(23), LoadPlan(4), _noisy)
    ),
}


def _plain(batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return batch.tolist()
    if isinstance(batch, dict):
        return {name: _plain(part) for name, part in batch.items()}
    return [_plain(part) for part in batch]


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("stop", [1, 3, 6, 8])
def test_a_loader_put_up_again_gives_the_rest_of_its_batches(name: str, stop: int) -> None:
    def batches(loader: Any, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            for batch in loader:
                found.append(_plain(batch))
                if len(found) == count:
                    break
        return found

    torch.manual_seed(11)
    whole = batches(LOADERS[name](), 14)
    torch.manual_seed(11)
    first = LOADERS[name]()
    begun = batches(first, stop)
    state, random = first.state_dict(), capture_rng()
    torch.manual_seed(99)
    second = LOADERS[name]()
    second.load_state_dict(state)
    restore_rng(random)

    assert whole == begun + batches(second, 14 - stop)


def test_epochs_differ_and_each_has_every_row() -> None:
    loader = InMemoryLoader(torch.arange(50), LoadPlan(7))

    first, second = flat(list(loader)), flat(list(loader))

    assert first != second
    assert list(range(50)) == sorted(first) == sorted(second)


def test_ragged_rows_are_padded_and_sorted_alike() -> None:
    loader = RaggedLoader(_ragged(), LoadPlan(4), padding=-1)

    for batch in loader:
        for ids, length, y in zip(batch["ids"], batch["ids_lengths"], batch["y"], strict=True):
            row = int(y)
            assert [row] * (row % 7 + 1) == ids[: int(length)].tolist()
            assert bool((ids[int(length) :] == -1).all())
    padded = sum(int((batch["ids"] == -1).sum()) for batch in loader)
    assert padded < 20


def test_samples_of_different_length_are_padded_in_dicts_and_tuples() -> None:
    short, long = torch.tensor([1]), torch.tensor([1, 2, 3])

    as_dict = pad_samples([{"ids": short, "y": 0}, {"ids": long, "y": 1}])
    as_tuple = pad_samples([(short, 0), (long, 1)])

    assert [[1, 0, 0], [1, 2, 3]] == as_dict["ids"].tolist() == as_tuple[0].tolist()
    assert [1, 3] == as_dict["ids_lengths"].tolist() == as_tuple[2].tolist()


def test_worker_processes_give_the_same_rows_in_the_same_order() -> None:
    here = [batch[:, 0].tolist() for batch in DatasetLoader(Rows(), LoadPlan(4))]

    there = [batch[:, 0].tolist() for batch in DatasetLoader(Rows(), LoadPlan(4), num_workers=1)]

    assert here == there


def test_a_shift_moves_pictures_by_whole_pixels() -> None:
    x = torch.zeros(64, 1, 9, 9)
    x[:, 0, 4, 4] = 1

    moved = shift(x, torch.Generator().manual_seed(0), most=2)

    places = moved.flatten(1).argmax(1)
    assert len(set(places.tolist())) > 10
    assert bool((moved.flatten(1).sum(1) == 1).all())
    assert int((places // 9 - 4).abs().max()) == int((places % 9 - 4).abs().max()) == 2
