"""Small trainers that always come out the same, for tests of resuming; each is named for what it covers."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from workers.nets.table import build_net
from workers.train._towhee import TrainingConfig
from workers.train.base import BaseTrainer
from workers.train.configs import CheckpointOptions, OptimizerOptions, TrainerOptions
from workers.train.configs.autoencoder import AutoencoderOptions
from workers.train.configs.semi_supervised import SemiSupervisedOptions
from workers.train.data import hide_labels
from workers.train.trainers import AutoencoderTrainer, SemiSupervisedTrainer


def quiet(folder: Path, **fields: Any) -> TrainingConfig:
    """A config that neither prints nor draws, with 4 epochs of small batches."""
    chosen = {
        "output_dir": str(folder),
        "batch_size": 16,
        "epoch_num": 4,
        "lr": 1e-2,
        "print_steps": 10**9,
        "tensorboard": None,
        "early_stopping": None,
        "model_checkpoint": None,
    }
    return TrainingConfig(**{**chosen, **fields})


def points(rows: int = 160) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of three classes in eight dimensions."""
    generator = torch.Generator().manual_seed(7)
    y = torch.randint(0, 3, (rows,), generator=generator)
    x = torch.randn(rows, 8, generator=generator) + torch.eye(3, 8)[y] * 2
    return x, y


def net() -> nn.Module:
    """Dropout and batch statistics: whatever is not restored shows."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


def plain(folder: Path) -> BaseTrainer:
    x, y = points()
    return BaseTrainer(net(), quiet(folder), (x, y), points(48))


def everything(folder: Path) -> BaseTrainer:
    """Accumulation, clipping, an average, a schedule with warm-up, evaluations and checkpoints by step."""
    options = TrainerOptions(
        accumulate=3,
        grad_clip=0.5,
        ema=0.9,
        max_steps=14,
        optimizers={"main": OptimizerOptions(name="AdamW", lr=0.01)},
        checkpoints=CheckpointOptions(every_steps=2, keep=2),
    )
    configs = quiet(folder, lr_scheduler_type="cosine", warmup_steps=3, eval_strategy="steps", eval_steps=4)
    return BaseTrainer(net(), configs, points(), points(48), options=options)


def torch_schedule(folder: Path) -> BaseTrainer:
    """SGD with momentum under a schedule of torch's, in bfloat16."""
    configs = quiet(
        folder,
        optimizer={"name_": "SGD", "momentum": 0.9},
        lr_scheduler_type={"name_": "StepLR", "step_size": 7, "gamma": 0.5},
    )
    return BaseTrainer(net(), configs, points(), options=TrainerOptions(precision="bfloat16"))


def _images() -> torch.Tensor:
    return torch.rand(96, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def _autoencoder(
    folder: Path, name: str, config: dict[str, object], options: AutoencoderOptions
) -> BaseTrainer:
    torch.manual_seed(1)
    model = build_net(name, config)
    return AutoencoderTrainer(model, quiet(folder, metric=None), _images(), _images()[:32], options=options)


def denoising(folder: Path) -> BaseTrainer:
    config = {"side": 8, "width": 4, "hidden": 16, "latent_dim": 4}
    return _autoencoder(folder, "conv_autoencoder", config, AutoencoderOptions(kind="denoising"))


def beta_vae(folder: Path) -> BaseTrainer:
    config = {"shape": (1, 8, 8), "hidden": (16,), "latent_dim": 4, "variational": True}
    options = AutoencoderOptions(
        kind="beta_vae",
        reconstruction="bce",
        beta=2.0,
        kl_warmup_steps=10,
        accumulate=2,
        importance_samples=3,
    )
    return _autoencoder(folder, "mlp_autoencoder", config, options)


def vq_vae(folder: Path) -> BaseTrainer:
    config = {"side": 8, "width": 8, "num_codes": 8, "code_dim": 4, "decay": 0.8}
    return _autoencoder(folder, "vq_autoencoder", config, AutoencoderOptions(kind="vq_vae", ema=0.9))


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
