"""One training in several processes, as a service needs it: checkpoints by the clock, and an end on demand.

No clock and no order is the same in two processes, so the first one decides, and the others hear of it where
all of them pause at the same step.
"""

from collections.abc import Callable

import torch

from workers.train.base import BaseTrainer, distributed
from workers.train.base.distributed import Processes
from workers.train.base.pauses import Due, Pauses
from workers.train.base.setup import make_pauses

#: Rows of a batch that one process has at least: with fewer, the processes wait more than they compute.
_LEAST_SHARE = 8


def num_processes(batch_size: int, available: int) -> int:
    """How many processes share a batch, so that each has the same part of it, and none too little."""
    return max(
        count
        for count in range(1, available + 1)
        if count == 1 or (batch_size % count == 0 and batch_size // count >= _LEAST_SHARE)
    )


class Together(BaseTrainer):
    """A mixin in front of a trainer. Alone, a process trains as it does without."""

    #: Called now and then in every process, at the same step; may write a checkpoint, and may raise.
    at_pause: Callable[[], None] | None = None

    def agreed(self, answer: bool) -> bool:
        """The answer of the first process. All of them have to ask."""
        if self.processes.total == 1:
            return answer
        return bool(distributed.of_first([answer], self.device)[0])

    def _build(self) -> None:
        super()._build()
        if self.processes.total > 1:
            pauses = make_pauses(
                self.configs,
                self.options,
                batches_per_step=self.batches_per_step(),
                last_step=self.options.max_steps,
                processes=Processes(),
            )
            self._pauses = PausesTogether(pauses, self.batches_per_step(), self.device)

    def _pause(self) -> bool:
        if self.at_pause is not None:
            self.at_pause()
        return super()._pause()


class PausesTogether(Pauses):
    """Pauses of several processes, where the first one reads the clock."""

    def __init__(self, own: Pauses, batches_per_step: int, device: torch.device) -> None:
        self._own = own
        self._batches_per_step = batches_per_step
        self._device = device

    def due(self, batch: int) -> Due:
        """What is due after ``batch`` batches in all."""
        due = self._own.due(batch)
        log, checkpoint = distributed.of_first([due.log, due.checkpoint], self._device)
        return due._replace(log=bool(log), checkpoint=bool(checkpoint))

    def evaluates(self, batch: int) -> bool:
        """Whether there is an evaluation after ``batch`` batches in all."""
        return self._own.evaluates(batch)

    def next(self, batch: int) -> int:
        """The batch at which to pause next: after a whole step, where a checkpoint can be written."""
        (ahead,) = distributed.of_first([self._own.next(batch)], self._device)
        return int(ahead) + -int(ahead) % self._batches_per_step
