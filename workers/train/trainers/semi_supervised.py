"""Classifiers that learn from few labels and many rows without.

Legend: B batch, K classes; ``lb`` labelled, ``ulb`` unlabelled, ``w`` weakly and ``s`` strongly changed.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from torch import Tensor, nn

from workers.nets.contracts import FeaturesInput, ImageInput, InputContract, TokensInput
from workers.nets.parts import Net
from workers.train.base import Step
from workers.train.base.batches import apply_model, inputs_of, split_batch
from workers.train.base.distributed import sum_in_place
from workers.train.base.ema import Ema, tensors_of
from workers.train.base.networks import MAIN
from workers.train.configs.semi_supervised import SemiSupervisedOptions
from workers.train.data.augment import Transform
from workers.train.data.loaders import Batch, Loader
from workers.train.export import Encoder, EncodingTrainer
from workers.train.losses.consistency import (
    CONSISTENCIES,
    RAMPS,
    Masked,
    aligned,
    pseudo_label,
    sharpened,
)
from workers.train.trainers.partly_labelled import paired_loader
from workers.train.trainers.views import Views, views_of

_MARGINAL_DECAY = 0.99


class SemiSupervisedTrainer(EncodingTrainer):
    """Trains a classifier on rows whose label may be `UNLABELLED`; every row is used without its label too.

    ``train_dataset`` is (inputs, labels), or a dict with ``labels`` beside one or several columns of inputs.
    Instead of it ``train_dataloader`` may give batches ``((inputs, labels), inputs)``. ``views`` changes rows
    and may be set to changes of one's own before training.

    Logged beside the loss: ``supervised`` and ``unlabelled``, its two parts, and ``used``, the share of
    unlabelled rows that were sure enough to be learnt from (1 for mean_teacher).
    """

    options_type: ClassVar = SemiSupervisedOptions
    options: SemiSupervisedOptions

    def __init__(
        self,
        model: nn.Module | None = None,
        *arguments: Any,  # noqa: ANN401  as BaseTrainer's
        **keywords: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(model, *arguments, **keywords)
        options = self.options
        self.views: Views = views_of(options)
        self._consistency = CONSISTENCIES[options.consistency]
        self._ramp = RAMPS[options.ramp]
        self._teacher: tuple[Ema, nn.Module] | None = None
        self._marginals_2K: Tensor | None = None
        learn: Mapping[str, Callable[[nn.Module, Any], Masked]] = {
            "fixmatch": self._fixmatch,
            "mean_teacher": self._mean_teacher,
            "pseudo_label": self._pseudo_label,
            "supervised": self._supervised,
        }
        self._learn_unlabelled = learn[options.method]

    def get_train_dataloader(self) -> Loader:
        """Labelled rows beside all rows; an epoch is one of all rows.

        Raises:
            ValueError: there is no data, or not one label in it.
        """
        if self.train_dataloader is not None or self.train_dataset is None:
            return super().get_train_dataloader()
        return paired_loader(self, self.options.unlabelled_ratio)

    def forward_step(self, model: nn.Module, batch: Batch) -> Step:
        """Labels and unlabelled rows in training, labels alone in evaluations."""
        if not model.training:
            inputs, labels_B = split_batch(batch)
            logits_BK = apply_model(model, inputs)
            return Step(F.cross_entropy(logits_BK, labels_B), logits_BK, labels_B, rows=len(labels_B))
        labelled, unlabelled = batch
        inputs, labels_B = split_batch(labelled)
        logits_BK = apply_model(model, self.views.weak(inputs, torch.default_generator))
        supervised = F.cross_entropy(logits_BK, labels_B)
        if self.options.align:
            self._follow(0, F.one_hot(labels_B, logits_BK.shape[1]))
        found = self._learn_unlabelled(model, inputs_of(unlabelled))
        values = {"supervised": supervised, "unlabelled": found.loss, "used": found.used}
        loss = supervised + self.unlabelled_weight() * found.loss
        return Step(loss, logits_BK, labels_B, values, rows=len(labels_B))

    def unlabelled_weight(self) -> float:
        """The weight of the unlabelled rows now."""
        options = self.options
        share = min(1.0, self.global_step / options.ramp_steps) if options.ramp_steps else 1.0
        return options.lambda_u * self._ramp(share)

    def warmup_steps(self) -> int:
        """While the weight grows, losses can't be compared."""
        return self.options.ramp_steps

    # One function a method: what unlabelled inputs say.

    def _fixmatch(self, model: nn.Module, ulb: Any) -> Masked:  # noqa: ANN401  whatever the net takes
        with torch.no_grad():
            guess_BK = self._guess(apply_model(model, self.views.weak(ulb, torch.default_generator)))
        logits_BK = apply_model(model, self.views.strong(ulb, torch.default_generator))
        return pseudo_label(logits_BK, guess_BK, self.options.threshold)

    def _pseudo_label(self, model: nn.Module, ulb: Any) -> Masked:  # noqa: ANN401
        logits_BK = apply_model(model, self.views.weak(ulb, torch.default_generator))
        return pseudo_label(logits_BK, self._guess(logits_BK.detach()), self.options.threshold)

    def _mean_teacher(self, model: nn.Module, ulb: Any) -> Masked:  # noqa: ANN401
        student, teacher = self._view(self.options.student_view), self._view(self.options.teacher_view)
        with torch.no_grad():
            teacher_BK = apply_model(self.teacher, teacher(ulb, torch.default_generator))
        student_BK = apply_model(model, student(ulb, torch.default_generator))
        loss = self._consistency(student_BK, teacher_BK)
        return Masked(loss, torch.ones_like(loss))

    def _supervised(self, model: nn.Module, ulb: Any) -> Masked:  # noqa: ANN401
        del model, ulb
        nothing = torch.zeros((), device=self.device)
        return Masked(nothing, nothing)

    def _view(self, name: Literal["weak", "strong"]) -> Transform:
        return self.views.strong if name == "strong" else self.views.weak

    def _guess(self, logits_BK: Tensor) -> Tensor:
        guess_BK = sharpened(logits_BK.float(), self.options.temperature)
        if not self.options.align:
            return guess_BK
        self._follow(1, guess_BK)
        return aligned(guess_BK, cast("Tensor", self._marginals_2K))

    @torch.no_grad()
    def _follow(self, row: int, classes_BK: Tensor) -> None:
        """Take a batch into the running frequencies of labels (row 0) or guesses (row 1)."""
        mean_K = classes_BK.float().mean(0)
        if self.processes.total > 1:
            sum_in_place(mean_K)
            mean_K /= self.processes.total
        if self._marginals_2K is None:
            self._marginals_2K = torch.full((2, len(mean_K)), 1 / len(mean_K), device=mean_K.device)
        self._marginals_2K[row].lerp_(mean_K, 1 - _MARGINAL_DECAY)

    @property
    def teacher(self) -> nn.Module:
        """The net with the running average as its weights, in eval mode and without gradients.

        It shares the average's memory: whatever moves or restores the average moves the teacher.
        """
        average = self.networks_by_name[MAIN].ema
        if average is None:
            raise RuntimeError("there is no average: options.ema is None or training has not begun")
        if self._teacher is None or self._teacher[0] is not average:
            module = copy.deepcopy(self.model).requires_grad_(requires_grad=False).eval()
            _share_memory(module, tensors_of(average))
            self._teacher = (average, module)
        return self._teacher[1]

    def extra_state(self) -> dict[str, Any]:
        """The running frequencies; the teacher is the average, which every checkpoint has."""
        return {"marginals": self._marginals_2K}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._marginals_2K = state["marginals"]

    def encoder(self) -> Encoder:
        """The classifier, whose embedding is its last hidden layer."""
        net = cast("Net", self.model)
        return Encoder(net, self.input_contract or _contract_of(net), self.tokenizer)


def _share_memory(module: nn.Module, average: Sequence[Tensor]) -> None:
    mine = [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
    for tensor, shared in zip(mine, average, strict=True):
        tensor.data = shared


def _contract_of(net: Net) -> InputContract:
    """What the net's config says a row is: a picture, words, or so many numbers."""
    config: Any = net.config
    if hasattr(config, "side"):
        return ImageInput(side=config.side, channels=config.channels)
    if hasattr(config, "vocabulary_size"):
        return TokensInput(max_length=config.max_length)
    return FeaturesInput(num_features=config.num_inputs)
