"""Running a trainer to its end, and breaking one off and resuming it, for comparison."""

import json
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workers.train._towhee import Callback
from workers.train.base import BaseTrainer

#: Makes the same trainer each time, with its files under the folder that is given.
MakeTrainer = Callable[[Path], BaseTrainer]


class Killed(Exception):
    """Stands for a process that ends without a word."""


class Recorder(Callback):
    """The loss of every batch by its number; can save at batches, as `saved_at` says, and end the run."""

    def __init__(self, trainer: BaseTrainer, *, save_at: Collection[int] = (), kill_at: int = 0) -> None:
        super().__init__()
        self.curve: dict[int, float] = {}
        self._trainer = trainer
        self._save_at = save_at
        self._kill_at = kill_at

    def on_train_batch_end(self, batch: Any, logs: dict[str, Any]) -> None:
        self.curve[self._trainer.micro_step] = logs["step_loss"]
        if self._trainer.micro_step in self._save_at:
            self._trainer.save(saved_at(Path(self._trainer.configs.output_dir), self._trainer.micro_step))
        if self._trainer.micro_step == self._kill_at:
            raise Killed


class Run(NamedTuple):
    """How a run went and where it ended."""

    curve: dict[int, float]
    tensors: dict[str, Tensor]
    state: str


def saved_at(folder: Path, batch: int) -> Path:
    """What a recorder saved of the run in ``folder`` after a batch."""
    return folder / f"saved_{batch}"


def run(
    trainer: BaseTrainer, resume: Path | None = None, *, save_at: Collection[int] = (), kill_at: int = 0
) -> Run:
    """Train to the end, or to where the recorder ends it."""
    recording = Recorder(trainer, save_at=save_at, kill_at=kill_at)
    trainer.add_callback(recording)
    with suppress(Killed):
        trainer.train(resume)
    snapshot = trainer._snapshot()
    # As text: NaN is equal to NaN there.
    state = json.dumps({key: value for key, value in snapshot.state.items() if key != "logs"})
    return Run(recording.curve, {**snapshot.model, **snapshot.training}, state)


def difference(one: Run, other: Run) -> float:
    """The greatest difference of anything in the two runs' ends; infinite when they are not of one shape."""
    if one.state != other.state or one.tensors.keys() != other.tensors.keys():
        return float("inf")
    worst = 0.0
    for name, tensor in one.tensors.items():
        theirs = other.tensors[name]
        if tensor.shape != theirs.shape or tensor.dtype != theirs.dtype:
            return float("inf")
        if not torch.equal(tensor, theirs):
            worst = max(worst, float((tensor.double() - theirs.double()).abs().max()), 1e-300)
    return worst


def check_exact_resume(make: MakeTrainer, folder: Path, shares: Collection[float]) -> None:
    """Save at shares of the run, resume each in a new trainer: the rest has to be the same, bit for bit."""
    whole = run(make(folder / "whole"))
    batches = {max(1, round(max(whole.curve) * share)) for share in shares}
    saving = run(make(folder / "saving"), save_at=batches)
    assert whole.curve == saving.curve
    assert 0.0 == difference(whole, saving)

    for saved in batches:
        resumed = run(make(folder / f"resumed_{saved}"), saved_at(folder / "saving", saved))
        assert {batch: loss for batch, loss in whole.curve.items() if batch > saved} == resumed.curve
        assert 0.0 == difference(whole, resumed)
