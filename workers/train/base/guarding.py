"""Numbers of a run as they are shown, and the guard that stops it when they are no numbers any more."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workers.train.base.checkpoint import list_checkpoints
from workers.train.base.persistence import Persisting
from workers.train.base.tally import NonFiniteLoss


class TrainingDiverged(ArithmeticError):
    """The loss or a weight became NaN or infinite.

    ``step`` is the first step known to be bad, ``checkpoint`` the last good checkpoint, None when there is
    none.
    """

    def __init__(self, step: int, what: str, checkpoint: Path | None) -> None:
        where = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint"
        super().__init__(f"{what} in step {step}; {where}")
        self.step = step
        self.checkpoint = checkpoint


class Guarding(Persisting):
    """Logs, and `TrainingDiverged` before anything bad is shown or saved."""

    def _fresh_logs(self) -> dict[str, Any]:
        self._fold()
        metric = self.tally.metric.compute() if self.tally.metric is not None else None
        means = {"epoch_loss": self.tally.mean_loss, **self.tally.means()}
        return {
            **means,
            **self.derived(means),
            "global_step": self.global_step,
            "epoch": self.epoch,
            "lr": next(iter(self.networks_by_name.values())).lr,
            "step_loss": self.tally.last_loss,
            "epoch_metric": math.nan if metric is None else metric,
        }

    def _refresh_logs(self) -> None:
        self.logs.stale = False
        self.logs.update(self._fresh_logs())

    def _fold(self) -> None:
        try:
            self.tally.fold()
        except NonFiniteLoss as error:
            step = -(-(self.micro_step - error.num_later) // self.batches_per_step())
            raise TrainingDiverged(step, f"the loss is {error.loss}", self._last_good()) from error

    def _ensure_finite(self, weights: Mapping[str, Tensor]) -> None:
        if not self.options.stop_when_not_finite:
            return
        checks = [weight.isfinite().all() for weight in weights.values() if weight.is_floating_point()]
        if checks and not bool(torch.stack(checks).all()):
            raise TrainingDiverged(self.global_step, "a weight is NaN or infinite", self._last_good())

    def _last_good(self) -> Path | None:
        if self._writer is not None:
            self._writer.wait()
        found = list_checkpoints(self.checkpoint_folder)
        return found[-1] if found else None
