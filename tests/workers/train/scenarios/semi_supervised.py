"""Learning from few labels, by every method."""

from pathlib import Path

from tests.workers.train.scenarios import net, points, quiet
from workers.train.base import BaseTrainer
from workers.train.configs.semi_supervised import SemiSupervisedOptions
from workers.train.data import hide_labels
from workers.train.trainers import SemiSupervisedTrainer


def _semi_supervised(folder: Path, options: SemiSupervisedOptions) -> BaseTrainer:
    """Points of three classes, 24 with a label; batch statistics and dropout see labelled and unlabelled."""
    x, y = points()
    labels = hide_labels(y, keep=8)
    configs = quiet(folder, batch_size=6, epoch_num=3)
    return SemiSupervisedTrainer(net(), configs, (x, labels), points(48), options=options)


def fixmatch(folder: Path) -> BaseTrainer:
    """Running class frequencies, and a teacher for evaluation, in the middle of a step of two batches."""
    options = SemiSupervisedOptions(
        method="fixmatch", augmentation="features", align=True, threshold=0.5, accumulate=2, ema=0.8
    )
    return _semi_supervised(folder, options)


def mean_teacher(folder: Path) -> BaseTrainer:
    """A teacher that decides the loss, with a weight that grows."""
    options = SemiSupervisedOptions(
        method="mean_teacher", augmentation="features", lambda_u=20.0, ramp="sigmoid", ramp_steps=8, ema=0.9
    )
    return _semi_supervised(folder, options)


def pseudo_label(folder: Path) -> BaseTrainer:
    options = SemiSupervisedOptions(
        method="pseudo_label", augmentation="features", align=True, threshold=0.6, ramp_steps=8, ema=None
    )
    return _semi_supervised(folder, options)


VARIANTS = (fixmatch, mean_teacher, pseudo_label)
