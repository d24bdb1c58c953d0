"""Samples into batches, with rows of different length padded."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

LENGTHS_SUFFIX = "_lengths"


def pad_samples(samples: Sequence[Any]) -> Any:  # noqa: ANN401  a batch has the shape of its samples
    """Collate samples that are tensors, tuples or dicts.

    Tensors whose shapes differ in their first axis are padded with zeros to the longest; in a dict the
    lengths come under ``<name>_lengths``, in a tuple they follow at the end, one (B,) tensor a padded column.
    """
    first = samples[0]
    if isinstance(first, Mapping):
        batch: dict[str, Any] = {}
        for name in first:
            batch[name], lengths = _column([sample[name] for sample in samples])
            if lengths is not None:
                batch[name + LENGTHS_SUFFIX] = lengths
        return batch
    if isinstance(first, tuple):
        columns = [_column(list(column)) for column in zip(*samples, strict=True)]
        return (
            *(values for values, _ in columns),
            *(lengths for _, lengths in columns if lengths is not None),
        )
    return default_collate(list(samples))


def _column(values: list[Any]) -> tuple[Any, Tensor | None]:
    if all(isinstance(value, Tensor) and value.dim() > 0 for value in values):
        lengths = [len(value) for value in values]
        if len(set(lengths)) > 1:
            padded = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
            return padded, torch.tensor(lengths)
    return default_collate(values), None
