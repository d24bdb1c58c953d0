"""What a task fills in: the part of RNNTrainer that differs from one kind of sequence learning to another."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from workers.nets.recurrent import inside
from workers.nets.sequences import SequenceEncoder
from workers.train.base import Step
from workers.train.data.loaders import Batch, Loader, LoadPlan
from workers.train.losses.sequences import IGNORED, SEQUENCE_LOSSES

if TYPE_CHECKING:
    from workers.train.trainers.rnn.trainer import RNNTrainer


class Task(ABC):
    """One task of one trainer; its methods are the trainer's hooks of the same names."""

    #: The net that it takes.
    net_type: ClassVar[type[SequenceEncoder]]

    def __init__(self, trainer: "RNNTrainer") -> None:
        self._trainer = trainer
        self._loss = SEQUENCE_LOSSES[trainer.options.task]

    @abstractmethod
    def step(self, model: nn.Module, batch: Batch) -> Step:
        """One forward pass with its loss, in training and in evaluation."""

    def make_loader(self, data: Any, plan: LoadPlan) -> Loader | None:  # noqa: ANN401  whatever the user has
        """A loader for data that only this task knows."""
        del data, plan
        return None

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        """Numbers out of means."""
        del means
        return {}

    def watched_metric(self) -> tuple[str, str] | None:
        """The number that says which model is best, None for the usual one."""
        return None

    def begin_epoch(self) -> None:  # noqa: B027  a hook
        """A new epoch of training."""

    def begin_evaluation(self) -> None:  # noqa: B027  a hook
        """A new evaluation."""

    def end_evaluation(self, model: nn.Module) -> dict[str, float]:
        """The end of an evaluation."""
        del model
        return {}

    def extra_state(self) -> dict[str, Any]:
        """What a checkpoint has to hold."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027  a hook
        """Take what `extra_state` gave."""

    def _loss_of(self, model: nn.Module, logits: Tensor, targets: Tensor) -> Tensor:
        smoothing = self._trainer.options.label_smoothing if model.training else 0.0
        return self._loss(logits, targets, smoothing)

    @property
    def _measures(self) -> bool:
        """Whether outputs are asked for by a metric."""
        return self._trainer.metric is not None


def masked(targets_BL: Tensor, lengths_B: Tensor | None) -> Tensor:
    """Targets with everything after a row's end marked as not to be learnt."""
    if lengths_B is None:
        return targets_BL
    return targets_BL.masked_fill(~inside(lengths_B, targets_BL.shape[1]), IGNORED)
