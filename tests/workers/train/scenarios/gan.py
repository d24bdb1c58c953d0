"""Two nets in turns, by every loss."""

from pathlib import Path
from typing import Any

import torch

from tests.workers.train.scenarios import quiet
from workers.nets.table import build_net
from workers.train.base import BaseTrainer
from workers.train.configs import GANOptions
from workers.train.trainers import GANTrainer


def _gan(folder: Path, options: GANOptions, *, norm: str = "batch", num_classes: int = 0) -> BaseTrainer:
    """Noise of three brightnesses as pictures, 28 pixels wide, in five batches an epoch."""
    generator = torch.Generator().manual_seed(5)
    y = torch.randint(0, 3, (40,), generator=generator)
    x = torch.rand(40, 1, 28, 28, generator=generator) * (y[:, None, None, None] + 1) / 3
    torch.manual_seed(1)
    config: dict[str, Any] = {
        "width": 4,
        "latent_dim": 4,
        "hidden": 4,
        "discriminator_norm": norm,
        "num_classes": num_classes,
    }
    configs = quiet(folder, batch_size=8, epoch_num=6, lr=2e-3, metric=None, eval_strategy="no")
    return GANTrainer(build_net("gan", config), configs, (x, y), options=options)


def wasserstein_gp(folder: Path) -> BaseTrainer:
    """Broken off between two updates of the critic and in the middle of one: a step is six batches."""
    options = GANOptions(loss="wasserstein_gp", n_critic=3, accumulate=2, collapse_after=0)
    return _gan(folder, options, norm="layer")


def conditional_hinge(folder: Path) -> BaseTrainer:
    """Vectors of the spectral norm, lazy R1, augmentation, classes; between the two nets."""
    options = GANOptions(
        loss="hinge", n_critic=2, r1=0.5, r1_every=3, augment=("color", "translation", "cutout")
    )
    return _gan(folder, options, norm="spectral", num_classes=3)


def non_saturating(folder: Path) -> BaseTrainer:
    """Batch statistics, averages of both nets, and a window of the watch for collapses."""
    return _gan(folder, GANOptions(ema={"g": 0.9, "d": 0.8}, grad_clip={"d": 1.0}, accumulate=2))


def least_squares(folder: Path) -> BaseTrainer:
    return _gan(folder, GANOptions(loss="least_squares", precision="bfloat16", collapse_after=0))


VARIANTS = (wasserstein_gp, conditional_hinge, non_saturating, least_squares)
