"""Loaders whose place in the data is part of a checkpoint.

`InMemoryLoader` slices tensors by a permutation and runs no Python a sample; `RaggedLoader` does the same for
rows of different length; `DatasetLoader` reads any map-style dataset; `ReplayLoader` takes whatever can be
iterated. All follow `Loader`: leave the loop anywhere, keep ``state_dict()``, load it elsewhere, and the rest
of the epoch comes out the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from workers.train.data.augment import Transform
from workers.train.rng import RngState, capture_rng, restore_rng

Batch = Any
_CHUNK_BYTES = 32 << 20
#: Far from the seeds of orders, so that no process draws an order's numbers for a transform.
_TRANSFORM_SEED = 1 << 40


class Loader(Protocol):
    """What the trainer asks of a loader."""

    #: Batches are already on the device they are used on.
    on_device: bool

    def __iter__(self) -> Iterator[Batch]:
        """Go on where the loader stands; at the end of the epoch it stands at the next one's start."""

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: epoch, position in batches, permutation, generator."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where another loader of the same data stood."""

    def reset(self) -> None:
        """Forget a half-read epoch."""

    def num_batches(self) -> int | None:
        """Batches in an epoch of this process; None when nobody can know."""


class LoadPlan(NamedTuple):
    """How rows become batches. ``rank`` of ``world_size`` processes takes its share of every global batch.

    With ``uneven`` every row is dealt out, one process after the other, so that some get one more: right for
    evaluation, where nobody waits for the others, and wrong for training.
    """

    batch_size: int
    shuffle: bool = True
    drop_last: bool = False
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")
    uneven: bool = False


class EpochLoader(ABC):
    """The order of rows and the place in it, for loaders that can ask for any row.

    The global batch is ``batch_size * world_size`` rows of the permutation; each process takes a run of
    ``batch_size`` of them, so that two processes see together what one with the doubled batch sees.
    """

    on_device = True

    def __init__(self, num_rows: int, plan: LoadPlan) -> None:
        if num_rows < 1 or plan.batch_size < 1:
            raise ValueError(
                f"a loader needs rows and a batch size of at least 1, got {num_rows}, {plan.batch_size}"
            )
        self.plan = plan
        self.epoch = 0
        self.position = 0
        self.generator = torch.Generator().manual_seed(plan.seed)
        # A transform may draw differently in each process, and the order has to stay the same in all.
        self.transform_generator = torch.Generator().manual_seed(_TRANSFORM_SEED + plan.seed + plan.rank)
        self._num_rows = num_rows
        self._permutation: Tensor | None = None
        self._rows: Tensor | None = None
        if plan.uneven:
            self._rest = 0
            self._num_batches = -(-len(range(plan.rank, num_rows, plan.world_size)) // plan.batch_size)
            return
        whole, rest = divmod(num_rows, plan.batch_size * plan.world_size)
        self._rest = 0 if plan.drop_last else rest - rest % plan.world_size
        self._num_batches = whole + (self._rest > 0)
        if self._num_batches == 0:
            raise ValueError(
                f"{num_rows} rows make no batch of {plan.batch_size} on {plan.world_size} processes"
            )

    def __len__(self) -> int:
        return self._num_batches

    def num_batches(self) -> int | None:
        """Batches in an epoch of this process."""
        return self._num_batches

    def __iter__(self) -> Iterator[Batch]:
        if self._permutation is None:
            self._begin(self._order())
        while self.position < self._num_batches:
            for batch in self._batches(self.position):
                # Counted before it is handed out: a checkpoint written while it is in use has it behind
                # itself.
                self.position += 1
                yield batch
        self.epoch += 1
        self.reset()

    def reset(self) -> None:
        """Stand at the start of an epoch with no permutation drawn yet."""
        self.position = 0
        self._permutation = self._rows = None

    def state_dict(self) -> dict[str, Any]:
        """Epoch, position, permutation (int32 or int64) and the generator's state."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "permutation": self._permutation,
            "generator": self.generator.get_state(),
            "transform_generator": self.transform_generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take another loader's place.

        Raises:
            ValueError: the permutation is of other data.
        """
        permutation = state["permutation"]
        if permutation is not None and len(permutation) != self._num_rows:
            raise ValueError(f"the checkpoint is of {len(permutation)} rows, the data has {self._num_rows}")
        self.epoch = state["epoch"]
        self.position = state["position"]
        self.generator.set_state(state["generator"])
        self.transform_generator.set_state(state["transform_generator"])
        if permutation is None:
            self._permutation = self._rows = None
        else:
            self._begin(permutation)

    @abstractmethod
    def _batches(self, first: int) -> Iterator[Batch]:
        """Batches from number ``first`` on; not necessarily to the end."""

    def _order(self) -> Tensor:
        if self.plan.shuffle:
            return torch.randperm(self._num_rows, generator=self.generator)
        return torch.arange(self._num_rows)

    def _begin(self, permutation: Tensor) -> None:
        plan = self.plan
        self._permutation = permutation
        if plan.world_size == 1 or plan.uneven:
            self._rows = permutation[plan.rank :: plan.world_size]
            return
        used = len(permutation) // (plan.batch_size * plan.world_size) * plan.batch_size * plan.world_size
        whole = permutation[:used].view(-1, plan.world_size, plan.batch_size)[:, plan.rank].reshape(-1)
        rest = permutation[used : used + self._rest].view(plan.world_size, -1)[plan.rank]
        self._rows = torch.cat([whole, rest])

    def _rows_of(self, first: int, last: int) -> Tensor:
        """The rows of batches ``first`` to ``last`` (exclusive) of this process."""
        if self._rows is None:
            raise RuntimeError("the epoch has not begun")
        end = len(self._rows) if not self.plan.drop_last else self._num_batches * self.plan.batch_size
        return self._rows[first * self.plan.batch_size : min(end, last * self.plan.batch_size)]


class InMemoryLoader(EpochLoader):
    """Batches out of tensors that all have the same number of rows: a tensor, a tuple or a dict of them.

    Rows are gathered by chunks of many batches, so that a batch costs one view a tensor.
    ``transform(batch, generator)`` is applied to each batch; its random numbers come from a generator of the
    loader's, one a process.
    """

    def __init__(
        self,
        data: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
        plan: LoadPlan,
        transform: Transform | None = None,
    ) -> None:
        self._names = list(data) if isinstance(data, Mapping) else None
        self._bare = isinstance(data, Tensor)
        tensors = (
            [data] if isinstance(data, Tensor) else list(data.values() if isinstance(data, Mapping) else data)
        )
        if not tensors or any(len(tensor) != len(tensors[0]) for tensor in tensors):
            raise ValueError(f"tensors of one length are needed, got {[len(tensor) for tensor in tensors]}")
        super().__init__(len(tensors[0]), plan)
        self._tensors = [tensor.to(plan.device) for tensor in tensors]
        self._transform = transform
        row_bytes = sum(tensor[:1].nbytes for tensor in self._tensors)
        self._chunk = max(1, _CHUNK_BYTES // max(1, row_bytes * plan.batch_size))

    def _batches(self, first: int) -> Iterator[Batch]:
        rows = self._rows_of(first, min(self._num_batches, first + self._chunk)).to(self.plan.device)
        parts = [torch.split(tensor.index_select(0, rows), self.plan.batch_size) for tensor in self._tensors]
        batches: Iterable[Batch]
        if self._bare:
            batches = parts[0]
        elif self._names is None:
            batches = zip(*parts, strict=True)
        else:
            batches = (dict(zip(self._names, columns, strict=True)) for columns in zip(*parts, strict=True))
        if self._transform is None:
            return iter(batches)
        return (self._transform(batch, self.transform_generator) for batch in batches)


class Ragged(NamedTuple):
    """Rows of different length, one after the other: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    values: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Ragged":
        """Rows of whole numbers, int64."""
        lengths = torch.tensor([0, *(len(row) for row in rows)])
        return cls(
            torch.tensor([value for row in rows for value in row], dtype=torch.long), lengths.cumsum(0)
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def pad(self, rows: Tensor, padding: int) -> tuple[Tensor, Tensor]:
        """The rows (B, longest) filled up with ``padding``, and their lengths (B,). No Python a row."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        columns = torch.arange(int(lengths.max()), device=self.values.device)
        inside = columns < lengths[:, None]
        padded = self.values[torch.where(inside, starts[:, None] + columns, 0)]
        return torch.where(inside, padded, padding), lengths


class RaggedLoader(EpochLoader):
    """Batches of rows of different length, padded, with rows of like length side by side.

    A batch is a dict: each ragged column under its name with ``<name>_lengths`` beside it, each fixed column
    under its name. In a shuffled epoch windows of ``window`` batches are sorted by the first ragged column's
    length, then the batches are shuffled.
    """

    def __init__(
        self,
        columns: Mapping[str, Ragged | Tensor],
        plan: LoadPlan,
        *,
        padding: int = 0,
        window: int = 50,
        transform: Transform | None = None,
    ) -> None:
        ragged = [column for column in columns.values() if isinstance(column, Ragged)]
        sizes = {len(column) for column in columns.values()}
        if not ragged or len(sizes) != 1:
            raise ValueError(
                f"at least one ragged column and one number of rows are needed, got {sorted(sizes)}"
            )
        self._columns = {name: _to_device(column, plan.device) for name, column in columns.items()}
        self._padding = padding
        self._window = window * plan.batch_size * plan.world_size
        self._lengths = ragged[0].offsets.diff().cpu()
        self._transform = transform
        super().__init__(sizes.pop(), plan)

    def _order(self) -> Tensor:
        order = super()._order()
        if not self.plan.shuffle:
            return order
        step = self.plan.batch_size * self.plan.world_size
        windows = [
            part[self._lengths[part].argsort(stable=True)] for part in torch.split(order, self._window)
        ]
        batches = list(torch.split(torch.cat(windows), step))
        rest = [batches.pop()] if len(batches[-1]) < step else []  # a short batch stays last
        shuffled = torch.randperm(len(batches), generator=self.generator).tolist()
        return torch.cat([batches[at] for at in shuffled] + rest)

    def _batches(self, first: int) -> Iterator[Batch]:
        rows = self._rows_of(first, first + 1).to(self.plan.device)
        batch: dict[str, Tensor] = {}
        for name, column in self._columns.items():
            if isinstance(column, Ragged):
                batch[name], batch[f"{name}_lengths"] = column.pad(rows, self._padding)
            else:
                batch[name] = column[rows]
        yield batch if self._transform is None else self._transform(batch, self.transform_generator)


def _to_device(column: Ragged | Tensor, device: torch.device) -> Ragged | Tensor:
    if isinstance(column, Ragged):
        return Ragged(column.values.to(device), column.offsets.to(device))
    return column.to(device)


class ReplayLoader:
    """Any iterable of batches, such as a DataLoader or an iterable dataset.

    Nothing is known of what is inside, so a place in it is found again by setting all random generators to
    what they were when the epoch began, and skipping the batches already used. That costs reading them once
    more, and needs an iterable that begins anew at each ``iter()``.
    """

    on_device = False

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.epoch = 0
        self.position = 0
        self._source = batches
        self._began: RngState | None = None

    def num_batches(self) -> int | None:
        """Its length, if it has one."""
        try:
            return len(self._source)  # type: ignore[arg-type]
        except TypeError:
            return None

    def __iter__(self) -> Iterator[Batch]:
        setter = getattr(getattr(self._source, "sampler", None), "set_epoch", None)
        if setter is not None:
            setter(self.epoch)
        batches = self._begin()
        for batch in batches:
            self.position += 1
            yield batch
        self.epoch += 1
        self.reset()

    def _begin(self) -> Iterator[Batch]:
        if self._began is None:
            self._began = capture_rng()
            return iter(self._source)
        now = capture_rng()
        restore_rng(self._began)
        batches = iter(self._source)
        for _ in range(self.position):
            next(batches)
        restore_rng(now)
        return batches

    def reset(self) -> None:
        """Stand at the start of an epoch."""
        self.position = 0
        self._began = None

    def state_dict(self) -> dict[str, Any]:
        """Epoch, position, and the random generators as the epoch began."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "began": self._began and self._began._asdict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take another loader's place."""
        self.epoch = state["epoch"]
        self.position = state["position"]
        self._began = RngState(**state["began"]) if state["began"] else None
