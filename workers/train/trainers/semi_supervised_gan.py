"""A classifier that learns from few labels by telling real rows from generated ones (Salimans et al., 2016).

Legend: B batch, K classes, F features.
"""

from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from torch import Tensor, nn

from workers.nets.contracts import FeaturesInput, ImageInput, InputContract
from workers.nets.gan import Gan
from workers.nets.mlp_gan import MlpGan
from workers.nets.parts import Net
from workers.nets.table import part_of
from workers.nets.validation import InvalidConfig, Problem
from workers.train.base import Step
from workers.train.base.batches import inputs_of, split_batch
from workers.train.configs.semi_supervised_gan import SemiSupervisedGANOptions
from workers.train.data.differentiable import differentiable
from workers.train.data.loaders import Batch, Loader
from workers.train.export import Encoder, EncodingTrainer
from workers.train.losses.salimans import MATCHINGS, generated_loss, real_loss
from workers.train.trainers.gan import GANTrainer, Loss, Real
from workers.train.trainers.partly_labelled import paired_loader

_PICTURE_AXES = 3


class SemiSupervisedGANTrainer(GANTrainer):
    """Trains a GAN whose discriminator gives a logit a class; rows are as for `SemiSupervisedTrainer`.

    The class "generated" has no output of its own: its logit is fixed at 0. The generator learns to make
    batches whose mean features are those of real ones.

    Logged beside what GANTrainer logs: ``loss_supervised``; ``real_score`` and ``fake_score`` are the
    probabilities of being real. An evaluation measures the classifier.
    """

    options_type: ClassVar = SemiSupervisedGANOptions
    options: SemiSupervisedGANOptions

    def __init__(
        self,
        model: nn.Module | None = None,
        *arguments: Any,  # noqa: ANN401  as GANTrainer's
        **keywords: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(model, *arguments, **keywords)
        self._matching = MATCHINGS[self.options.matching]
        if self.options.fid_samples and self.judge is None:
            problem = Problem(("options", "fid_samples"), "needs a judge: a few labels fit none")
            raise InvalidConfig([problem])

    def net_problems(self) -> list[Problem]:
        """What keeps this net from being trained as the options say."""
        net: Any = self.model
        if not isinstance(net, Gan | MlpGan):
            return [Problem(("net",), f"a gan or an mlp_gan is needed, not a {type(net).__name__}")]
        problems = []
        config: Any = net.config
        if config.num_outputs == 1:
            problems.append(Problem(("net", "num_outputs"), "is the number of classes, at least 2"))
        is_flat = isinstance(net, MlpGan) and len(config.shape) != _PICTURE_AXES
        if is_flat and self.options.num_samples:
            problems.append(Problem(("options", "num_samples"), "is 0 for rows that are no pictures"))
        if is_flat and self.options.augment:
            problems.append(Problem(("options", "augment"), "is for pictures"))
        return problems

    def get_train_dataloader(self) -> Loader:
        """Labelled rows beside all rows; an epoch is one of all rows.

        Raises:
            ValueError: there is no data, or not one label in it.
        """
        if self.train_dataloader is not None or self.train_dataset is None:
            return super().get_train_dataloader()
        return paired_loader(self, self.options.unlabelled_ratio)

    # The game.

    def read_batch(self, batch: Batch) -> Real:
        """Unlabelled rows, and the labelled ones beside them."""
        labelled, unlabelled = batch
        return Real(inputs_of(unlabelled), labelled=split_batch(labelled))

    def discriminator_loss(self, model: Gan, real: Real, fake_x: Tensor) -> Loss:
        """Classes of labelled rows, and real against generated."""
        x_lb, labels_B = cast("tuple[Tensor, Tensor]", real.labelled)
        sizes = [len(x_lb), len(real.x), len(fake_x)]
        # One pass: the rows of a batch don't touch each other, unless the net has batch statistics.
        logits_BK = self.score(model, torch.cat([x_lb, real.x, fake_x]))
        labelled, unlabelled, generated = torch.split(logits_BK, sizes)
        supervised = F.cross_entropy(labelled, labels_B)
        told_apart = 0.5 * (real_loss(unlabelled) + generated_loss(generated))
        values = {
            "loss_supervised": supervised.detach(),
            "real_score": unlabelled.detach().logsumexp(1).sigmoid().mean(),
            "fake_score": generated.detach().logsumexp(1).sigmoid().mean(),
        }
        return Loss(supervised + self.options.lambda_u * told_apart, values)

    def generator_loss(self, model: Gan, real: Real, fake_x: Tensor) -> Tensor:
        """How far the mean features of generated rows are from those of real ones."""
        with torch.no_grad():
            real_BF = self._features(model, real.x)
        return self._matching(real_BF, self._features(model, fake_x))

    def _features(self, model: Gan, x: Tensor) -> Tensor:
        return model.discriminator.features(differentiable(x, self.options.augment))

    # Evaluation and export.

    def watched_metric(self) -> tuple[str, str]:
        """The classifier is what counts."""
        return EncodingTrainer.watched_metric(self)

    def evaluation_step(self, model: nn.Module, batch: Batch) -> Step:
        """The classifier on labelled rows."""
        gan = cast("Gan", model)
        x, labels_B = split_batch(batch)
        logits_BK = gan.discriminator(x)
        if self._real_sums is not None and self.judge is not None:
            self.judge.look(x, self._real_sums)
        return Step(F.cross_entropy(logits_BK, labels_B), logits_BK, labels_B, rows=len(labels_B))

    @torch.no_grad()
    def classify(self, x: Tensor) -> Tensor:
        """Probabilities (B, K) of the classes by the averaged discriminator."""
        self._ready()
        with self._evaluating(self.model):
            logits_BK: Tensor = self.net.discriminator(self.prepare_inputs(x))
        return logits_BK.softmax(1)

    def encoder(self) -> Encoder:
        """The discriminator; its embedding is its features."""
        net = cast("Net", self.model)
        return Encoder(part_of(net, f"{net.net_name}_encoder"), self.input_contract or _contract_of(net))


def _contract_of(net: Net) -> InputContract:
    config: Any = net.config
    if hasattr(config, "side"):
        return ImageInput(side=config.side, channels=config.channels)
    if len(config.shape) == _PICTURE_AXES:
        return ImageInput(side=config.shape[1], channels=config.shape[0])
    return FeaturesInput(num_features=config.shape[0])
