"""The trainers as a service runs them: silent, with rows kept as small as they were stored.

They have the names of the trainers that they are, since a manifest says which one made an artifact.
Legend: B batch, C channels, H height, W width, V vocabulary, F numbers of a row.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Generator, Tensor

from workers.nets.columns import ColumnsAutoencoder, ColumnsEncoder, standardising
from workers.nets.contracts import BagInput
from workers.nets.headed import HEADED, headed_config
from workers.nets.parts import Net
from workers.nets.recurrent import Hidden
from workers.nets.table import build_net
from workers.train import trainers
from workers.train.base.callbacks import Hooks, PrintLogs, ProgressBar
from workers.train.data.augment import Transform
from workers.train.data.images import unit_range
from workers.train.data.labels import UNLABELLED
from workers.train.data.loaders import Batch, Loader, LoadPlan
from workers.train.export import Encoder, EncodingTrainer
from workers.train.fid import Judge, fit_judge
from workers.train.rng import isolated_rng
from workers.train.together import Together

#: ``stored batch -> what the net takes``.
Unpack = Callable[[Batch], Batch]
#: A judge of generated pictures is fitted to so many pictures at most.
_JUDGE_ROWS = 4000


class Hosted(Together, EncodingTrainer):
    """What the hosted trainers have in common; a mixin in front of a trainer."""

    #: Makes of each batch of stored rows, in training and in evaluation, what the net takes.
    unpack: Unpack | None = None

    def make_loader(self, data: Any, plan: LoadPlan, transform: Transform | None = None) -> Loader:  # noqa: ANN401
        """As the trainer's own, of batches that are unpacked first."""
        return super().make_loader(data, plan, _after(self.unpack, transform))

    def _build_callbacks(self, num_steps: int | None, steps_in_epoch: int | None) -> None:
        super()._build_callbacks(num_steps, steps_in_epoch)
        self._own_callbacks = [
            callback for callback in self._own_callbacks if not isinstance(callback, ProgressBar | PrintLogs)
        ]
        self.hooks = Hooks([*self.callbacks.callbacks, *self._own_callbacks])

    def whole_net(self) -> Net:
        """All of what was trained, as a net of the table: what another training can begin with."""
        return cast("Net", self.model)


def _after(unpack: Unpack | None, transform: Transform | None) -> Transform | None:
    if unpack is None:
        return transform

    def change(batch: Batch, generator: Generator) -> Batch:
        unpacked = unpack(batch)
        return unpacked if transform is None else transform(unpacked, generator)

    return change


def unit_pictures(batch: Batch) -> Batch:
    """Pictures of a batch as float32 in 0..1: alone, or before their labels."""
    if isinstance(batch, Tensor):
        return unit_range(batch)
    pictures, *rest = batch
    return (unit_range(pictures), *rest)


class Counting:
    """Token numbers of a batch as counts of words (B, V), as a `BagInput` counts them."""

    def __init__(self, contract: BagInput) -> None:
        self._size, self._skip = contract.vocabulary_size, contract.skip

    def __call__(self, batch: Batch) -> Batch:
        """A batch of ``ids`` and ``ids_lengths``."""
        ids_BL, lengths_B = batch["ids"], batch["ids_lengths"]
        inside_BL = torch.arange(ids_BL.shape[1], device=ids_BL.device) < lengths_B[:, None]
        counts_BV = torch.zeros(len(ids_BL), self._size, device=ids_BL.device)
        counts_BV.scatter_add_(1, ids_BL, inside_BL.float())
        counts_BV[:, : self._skip] = 0
        return counts_BV


class GANTrainer(Hosted, trainers.GANTrainer):
    """Whose judge is fitted to labelled rows alone, and not to more than it takes."""

    def _fitted_judge(self) -> Judge:
        x, labels_N = cast("tuple[Tensor, Tensor]", self.train_dataset)
        rows = (labels_N != UNLABELLED).nonzero()[:_JUDGE_ROWS, 0]
        pictures, classes = unit_range(x[rows]).to(self.device), labels_N[rows].to(self.device)
        return fit_judge(pictures, classes, num_epochs=self.options.judge_epochs, seed=self.configs.seed)


class AutoencoderTrainer(Hosted, trainers.AutoencoderTrainer):
    """Whose rows of numbers are standardised; what is exported takes them as they were."""

    #: Mean and spread (F,) of the columns, where rows are numbers.
    columns: tuple[Tensor, Tensor] | None = None

    def encoder(self) -> Encoder:
        """The encoder, with the standardisation in it."""
        found = super().encoder()
        if self.columns is None:
            return found
        return found._replace(net=standardising(cast("ColumnsEncoder", found.net), *self.columns))

    def whole_net(self) -> Net:
        """Encoder and decoder, with the standardisation in it."""
        net = super().whole_net()
        if self.columns is None:
            return net
        return standardising(cast("ColumnsAutoencoder", net), *self.columns)


class RNNTrainer(Hosted, trainers.RNNTrainer):
    """Which may go on in another number of processes, whose streams then begin anew."""

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there, where the hidden state is of as many streams as this process reads."""
        hidden = cast("Hidden | None", state.get("hidden"))
        if hidden is not None and hidden[0][0].shape[1] != self.configs.train_batch_size:
            state = {**state, "hidden": None}
        super().load_extra_state(state)


class SemiSupervisedTrainer(Hosted, trainers.SemiSupervisedTrainer):
    """As it is."""


class SemiSupervisedGANTrainer(Hosted, trainers.SemiSupervisedGANTrainer):
    """As it is."""


class FineTuneTrainer(Hosted, trainers.FineTuneTrainer):
    """Whose classifier is kept with its encoder."""

    def whole_net(self) -> Net:
        """The encoder with the classifier."""
        backbone, weights = self.model.backbone, self.model.state_dict()
        config = headed_config(backbone, self.model.head.out_features)
        with isolated_rng(0):
            net = build_net(HEADED[backbone.net_name], config)
        net.load_state_dict(weights)
        return net
