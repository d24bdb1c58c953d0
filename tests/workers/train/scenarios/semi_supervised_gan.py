"""The game of Salimans et al."""

from pathlib import Path

import torch

from tests.workers.train.scenarios import points, quiet
from workers.nets.table import build_net
from workers.train.base import BaseTrainer
from workers.train.configs import SemiSupervisedGANOptions
from workers.train.data import hide_labels
from workers.train.trainers import SemiSupervisedGANTrainer


def features(folder: Path) -> BaseTrainer:
    """Three passes of the discriminator, two batches each, before one of the generator; both averaged."""
    x, y = points()
    torch.manual_seed(5)
    sizes = {"shape": (8,), "latent_dim": 4, "generator": (16,), "discriminator": (16, 12)}
    return SemiSupervisedGANTrainer(
        build_net("mlp_gan", {**sizes, "output": "linear", "num_outputs": 3}),
        quiet(folder, batch_size=6, epoch_num=2),
        (x, hide_labels(y, keep=8)),
        points(48),
        options=SemiSupervisedGANOptions(n_critic=3, accumulate=2, num_samples=0),
    )


def every_batch(folder: Path) -> BaseTrainer:
    """A generator that moves with every batch, on a schedule, without averages; scales that stay."""
    x, y = points()
    torch.manual_seed(6)
    sizes = {"shape": (8,), "latent_dim": 4, "generator": (16,), "discriminator": (16, 12)}
    return SemiSupervisedGANTrainer(
        build_net("mlp_gan", {**sizes, "output": "linear", "num_outputs": 3, "scales": "fixed"}),
        quiet(folder, batch_size=6, epoch_num=2, lr_scheduler_type="cosine"),
        (x, hide_labels(y, keep=8)),
        points(48),
        options=SemiSupervisedGANOptions(matching="absolute", unlabelled_ratio=2, num_samples=0, ema=None),
    )


VARIANTS = (features, every_batch)
