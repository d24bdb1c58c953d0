"""Autoencoders of every kind."""

from pathlib import Path

import torch

from tests.workers.train.scenarios import quiet
from workers.nets.table import build_net
from workers.train.base import BaseTrainer
from workers.train.configs.autoencoder import AutoencoderOptions
from workers.train.trainers import AutoencoderTrainer


def _images() -> torch.Tensor:
    return torch.rand(96, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def _autoencoder(
    folder: Path, name: str, config: dict[str, object], options: AutoencoderOptions
) -> BaseTrainer:
    torch.manual_seed(1)
    model = build_net(name, config)
    return AutoencoderTrainer(model, quiet(folder, metric=None), _images(), _images()[:32], options=options)


def plain(folder: Path) -> BaseTrainer:
    """Three batches to a step, on rows of numbers."""
    config = {"shape": (1, 8, 8), "hidden": (16,), "latent_dim": 4}
    return _autoencoder(folder, "mlp_autoencoder", config, AutoencoderOptions(kind="plain", accumulate=3))


def denoising(folder: Path) -> BaseTrainer:
    config = {"side": 8, "width": 4, "hidden": 16, "latent_dim": 4}
    return _autoencoder(folder, "conv_autoencoder", config, AutoencoderOptions(kind="denoising"))


def vae(folder: Path) -> BaseTrainer:
    config = {"side": 8, "width": 4, "hidden": 16, "latent_dim": 4, "variational": True}
    options = AutoencoderOptions(kind="vae", reconstruction="bce", grad_clip=1.0, max_steps=17)
    return _autoencoder(folder, "conv_autoencoder", config, options)


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


VARIANTS = (plain, denoising, vae, beta_vae, vq_vae)
