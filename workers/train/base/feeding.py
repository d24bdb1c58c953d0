"""From whatever the user has to loaders whose place can be kept."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from workers.train.base.core import Core, unwrapped
from workers.train.data.augment import Transform
from workers.train.data.collate import pad_samples
from workers.train.data.datasets import DatasetLoader
from workers.train.data.loaders import (
    Batch,
    InMemoryLoader,
    Loader,
    LoadPlan,
    Ragged,
    RaggedLoader,
    ReplayLoader,
)


class Feeding(Core):
    """Loaders for training and evaluation."""

    #: Applied to each training batch of an in-memory loader, with the loader's own generator.
    train_transform: Transform | None = None

    def collate(self, samples: Sequence[Any]) -> Batch:
        """Samples of a dataset into one batch: different lengths are padded."""
        return pad_samples(samples)

    def get_train_dataloader(self) -> Loader:
        """The loader of the training data.

        Raises:
            ValueError: there is none.
        """
        data = self.train_dataloader if self.train_dataloader is not None else unwrapped(self.train_dataset)
        if data is None:
            raise ValueError("training needs a train_dataset or a train_dataloader")
        return self.make_loader(data, self.train_plan(), transform=self.train_transform)

    def get_eval_dataloader(self) -> Loader | None:
        """The loader of the evaluation data, None without any."""
        data = self.eval_dataloader if self.eval_dataloader is not None else unwrapped(self.eval_dataset)
        return None if data is None else self.make_loader(data, self.eval_plan())

    def train_plan(self) -> LoadPlan:
        """Shuffled; every process takes its share of each global batch."""
        return LoadPlan(
            batch_size=self.configs.train_batch_size,
            drop_last=self.configs.dataloader_drop_last,
            seed=self.configs.seed,
            rank=self.processes.rank,
            world_size=self.processes.total,
            device=self.device,
        )

    def eval_plan(self) -> LoadPlan:
        """In order, and every row counts."""
        plan = self.train_plan()
        return plan._replace(
            batch_size=self.configs.eval_batch_size, shuffle=False, drop_last=False, uneven=True
        )

    def make_loader(self, data: Any, plan: LoadPlan, transform: Transform | None = None) -> Loader:  # noqa: ANN401
        """A loader of ours for tensors, ragged rows, datasets, or anything that gives batches.

        ``transform`` is applied by in-memory loaders only: others have their own.
        """
        if hasattr(data, "num_batches") and hasattr(data, "state_dict"):
            return cast("Loader", data)
        tensors = data.tensors if isinstance(data, TensorDataset) else data
        if _is_tensors(tensors):
            return InMemoryLoader(tensors, _fitting(plan, tensors), transform)
        if isinstance(tensors, Mapping) and any(isinstance(column, Ragged) for column in tensors.values()):
            return RaggedLoader(tensors, _fitting(plan, tensors), transform=transform)
        if isinstance(data, IterableDataset):
            batches: Iterable[Batch] = DataLoader(
                data,
                batch_size=plan.batch_size,
                drop_last=plan.drop_last,
                collate_fn=self.collate,
                num_workers=self._num_workers(),
                pin_memory=self._pins(),
            )
            return ReplayLoader(batches)
        if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, DataLoader):
            return DatasetLoader(
                data, _fitting(plan, data), collate=self.collate, num_workers=self._num_workers()
            )
        return ReplayLoader(data)

    def _num_workers(self) -> int:
        wanted = self.configs.dataloader_num_workers
        return min(os.cpu_count() or 1, 8) if wanted == -1 else wanted

    def _pins(self) -> bool:
        return self.configs.dataloader_pin_memory and self.device.type == "cuda"


def _is_tensors(data: Any) -> bool:  # noqa: ANN401  anything
    if isinstance(data, Tensor):
        return True
    parts = data.values() if isinstance(data, Mapping) else data if isinstance(data, list | tuple) else ()
    return len(parts) > 0 and all(isinstance(part, Tensor) for part in parts)


def _fitting(plan: LoadPlan, data: Any) -> LoadPlan:  # noqa: ANN401  tensors or a dataset
    """The plan, but data that doesn't fill one batch is not dropped."""
    first = next(iter(data.values())) if isinstance(data, Mapping) else data
    rows = len(first[0]) if isinstance(first, list | tuple) and _is_tensors(first) else len(first)
    return plan if rows >= plan.batch_size * plan.world_size else plan._replace(drop_last=False)
