"""Loaders for datasets that are not tensors, and pairs of labelled and unlabelled data."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from workers.train.data.collate import pad_samples
from workers.train.data.loaders import Batch, EpochLoader, Loader, LoadPlan

Collate = Callable[[Sequence[Any]], Batch]


class DatasetLoader(EpochLoader):
    """Batches of any map-style dataset, in this process or with worker processes.

    The order is ours, so a place in an epoch is found again without reading what came before it. A dataset
    that draws random numbers gets the same ones again in this process; worker processes are seeded by epoch
    and batch number.
    """

    on_device = False

    def __init__(
        self, dataset: Dataset[Any], plan: LoadPlan, *, collate: Collate = pad_samples, num_workers: int = 0
    ) -> None:
        super().__init__(len(dataset), plan)  # type: ignore[arg-type]
        self._dataset = dataset
        self._collate = collate
        self._num_workers = num_workers

    def _batches(self, first: int) -> Iterator[Batch]:
        rows = self._rows_of(first, self._num_batches).tolist()
        size = self.plan.batch_size
        wanted = [rows[at : at + size] for at in range(0, len(rows), size)]
        if self._num_workers == 0:
            return self._here(wanted)
        # The loader draws a seed for its workers from this generator and from no other.
        seeds = torch.Generator().manual_seed(hash((self.plan.seed, self.epoch, first)) % 2**63)
        return iter(
            DataLoader(
                self._dataset,
                batch_sampler=wanted,
                collate_fn=self._collate,
                num_workers=self._num_workers,
                worker_init_fn=_seed_worker,
                generator=seeds,
                pin_memory=self.plan.device.type == "cuda",
            )
        )

    def _here(self, wanted: list[list[int]]) -> Iterator[Batch]:
        at_once = getattr(self._dataset, "__getitems__", None)
        for rows in wanted:
            yield self._collate(
                at_once(rows) if at_once is not None else [self._dataset[row] for row in rows]
            )


def _seed_worker(_number: int) -> None:
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  the generator that datasets use


class PairedLoader:
    """A labelled and an unlabelled loader side by side: each batch is ``(labelled, unlabelled)``.

    An epoch is one of the unlabelled data; the labelled loader starts again as often as it has to.
    """

    def __init__(self, labelled: Loader, unlabelled: Loader) -> None:
        self.labelled = labelled
        self.unlabelled = unlabelled
        self.on_device = labelled.on_device and unlabelled.on_device

    def num_batches(self) -> int | None:
        """Batches in an epoch of the unlabelled data."""
        return self.unlabelled.num_batches()

    def __iter__(self) -> Iterator[Batch]:
        labelled = self._endless()
        for unlabelled in self.unlabelled:
            yield next(labelled), unlabelled

    def _endless(self) -> Iterator[Batch]:
        while True:
            empty = True
            for batch in self.labelled:
                empty = False
                yield batch
            if empty and self.labelled.num_batches() is None:
                raise ValueError("the labelled data gave no batch")

    def reset(self) -> None:
        """Both at the start of an epoch."""
        self.labelled.reset()
        self.unlabelled.reset()

    def state_dict(self) -> dict[str, Any]:
        """Where both stand."""
        return {"labelled": self.labelled.state_dict(), "unlabelled": self.unlabelled.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put both where they stood."""
        self.labelled.load_state_dict(state["labelled"])
        self.unlabelled.load_state_dict(state["unlabelled"])
