"""One long text as parallel streams, read on from batch to batch: what truncated backpropagation wants.

Legend: N tokens, B streams, T steps of a batch.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from workers.train.data.loaders import LoadPlan

StreamBatch = tuple[Tensor, Tensor]


class StreamLoader:
    """Batches (inputs (B, T), targets (B, T)) of one text cut into B streams; targets are one token ahead.

    Row b of a batch goes on where row b of the batch before it ended, so a hidden state can be carried. With
    ``plan.shuffle`` each epoch begins at another of the first T tokens: the cuts between batches move. Two
    processes with B streams each see together what one with 2 B sees. Fewer than B + T tokens at the text's
    end are left over.
    """

    on_device = True

    def __init__(self, tokens_N: Tensor, plan: LoadPlan, sequence_length: int) -> None:
        streams = plan.batch_size * plan.world_size
        self._most_shift = sequence_length if plan.shuffle else 1
        self._per_stream = (len(tokens_N) - self._most_shift) // streams
        whole, rest = divmod(self._per_stream, sequence_length)
        self._num_batches = whole if plan.drop_last or not rest else whole + 1
        if self._num_batches < 1:
            raise ValueError(
                f"{len(tokens_N)} tokens make no batch of {sequence_length} in {streams} streams"
            )
        self.epoch = 0
        self.position = 0
        self.generator = torch.Generator().manual_seed(plan.seed)
        self._plan = plan
        self._length = sequence_length
        self._tokens = tokens_N.to(plan.device)
        self._shift: int | None = None

    def num_batches(self) -> int | None:
        """Batches in an epoch."""
        return self._num_batches

    def __iter__(self) -> Iterator[StreamBatch]:
        if self._shift is None:
            self._shift = int(torch.randint(self._most_shift, (1,), generator=self.generator))
        inputs, targets = self._streams(self._shift), self._streams(self._shift + 1)
        while self.position < self._num_batches:
            first = self.position * self._length
            # Counted before it is handed out, as by all loaders: a checkpoint has it behind itself.
            self.position += 1
            yield inputs[:, first : first + self._length], targets[:, first : first + self._length]
        self.epoch += 1
        self.reset()

    def _streams(self, first: int) -> Tensor:
        plan, count = self._plan, self._plan.batch_size * self._plan.world_size
        rows = self._tokens[first : first + count * self._per_stream].view(count, self._per_stream)
        return rows[plan.rank * plan.batch_size : (plan.rank + 1) * plan.batch_size]

    def reset(self) -> None:
        """Stand at the start of an epoch."""
        self.position = 0
        self._shift = None

    def state_dict(self) -> dict[str, Any]:
        """Epoch, position, the epoch's first token and the generator's state."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "shift": self._shift,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take another loader's place."""
        self.epoch, self.position = state["epoch"], state["position"]
        self._shift = state["shift"]
        self.generator.set_state(state["generator"])
