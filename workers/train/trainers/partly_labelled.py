"""Data of which only some rows have a label."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from workers.train.base.batches import TARGET_NAMES
from workers.train.base.feeding import Feeding
from workers.train.data.datasets import PairedLoader
from workers.train.data.labels import UNLABELLED
from workers.train.data.loaders import Ragged

Columns = Any


class Parts(NamedTuple):
    """The labelled rows with their labels, and all rows without."""

    labelled: Columns
    all_rows: Columns


def split_labelled(data: Any) -> Parts:  # noqa: ANN401  tensors in a tuple or dict, or what holds them
    """Part columns in memory: a tuple (inputs, labels), a TensorDataset, or a dict with an entry of labels.

    Raises:
        ValueError: the data has another shape, or no row has a label.
    """
    columns = data.tensors if isinstance(data, TensorDataset) else data
    if isinstance(columns, Mapping):
        name = next((name for name in TARGET_NAMES if name in columns), None)
        if name is None:
            raise ValueError(f"the data needs a column of {', '.join(TARGET_NAMES)}")
        rows = _labelled_rows(columns[name])
        return Parts(
            {key: take(column, rows) for key, column in columns.items()},
            {key: column for key, column in columns.items() if key != name},
        )
    if not isinstance(columns, list | tuple) or len(columns) != 2:  # noqa: PLR2004  inputs and labels
        raise ValueError(f"inputs and labels in memory are needed, not a {type(data).__name__}")
    rows = _labelled_rows(columns[1])
    return Parts(tuple(take(column, rows) for column in columns), columns[0])


def paired_loader(trainer: Feeding, ratio: int) -> PairedLoader:
    """Batches ``(labelled, unlabelled)`` of a trainer's data, ``ratio`` unlabelled rows for a labelled one.

    Raises:
        ValueError: as `split_labelled`.
    """
    parts = split_labelled(trainer.train_dataset)
    plan = trainer.train_plan()
    # Another seed: the two permutations have nothing to do with each other.
    wide = plan._replace(batch_size=plan.batch_size * ratio, seed=plan.seed + 1)
    return PairedLoader(trainer.make_loader(parts.labelled, plan), trainer.make_loader(parts.all_rows, wide))


def take(column: Tensor | Ragged, rows: Tensor) -> Tensor | Ragged:
    """Some rows of a column."""
    if isinstance(column, Tensor):
        return column[rows]
    starts, lengths = column.offsets[rows], column.offsets.diff()[rows]
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    places = torch.arange(int(offsets[-1])) + (starts - offsets[:-1]).repeat_interleave(lengths)
    return Ragged(column.values[places], offsets)


def _labelled_rows(labels_N: Tensor) -> Tensor:
    rows = (labels_N != UNLABELLED).nonzero()[:, 0]
    if not len(rows):
        raise ValueError("no row has a label")
    return rows
