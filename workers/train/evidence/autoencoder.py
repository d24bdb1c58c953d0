"""Rows of AutoencoderTrainer."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from workers.nets.table import build_net
from workers.train.configs.autoencoder import AutoencoderOptions
from workers.train.data import load_images, load_texts, unit_range
from workers.train.data.archives import ARCHIVES
from workers.train.evidence.measure import (
    bags,
    encoded,
    linear_probe,
    majority,
    pca,
    quiet_config,
    rows_of,
    timed_training,
    vocabulary,
)
from workers.train.evidence.rows import Goal, Measured, Row
from workers.train.trainers import AutoencoderTrainer

_SOURCES = (
    "workers/train/trainers/autoencoder.py",
    "workers/train/configs/autoencoder.py",
    "workers/train/losses/reconstruction.py",
    "workers/nets/autoencoder.py",
    "workers/nets/codebook.py",
)
_PUBLISHED = {
    "NLL bound, 64 samples": "89.78, 200 samples, binary MNIST, 60,000 digits (pythae's model card)",
}


def run_images(config: Mapping[str, Any], seed: int) -> Measured:
    """Train on pictures; rebuild, bound and probe the test pictures."""
    found = load_images(config["data"]).part(config["num_train"], config["num_test"])
    train_x, test_x = unit_range(found.train_x), unit_range(found.test_x)
    trainer = _trained(config, train_x, test_x, seed)
    seconds, logs = timed_training(trainer), trainer.evaluate()
    metrics = {"MSE": logs["eval_mse"]}
    pca_train, pca_test, pca_error = pca(rows_of(train_x), rows_of(test_x), config["pca"])
    probe = linear_probe((encoded(trainer, train_x), found.train_y), (encoded(trainer, test_x), found.test_y))
    pca_probe = linear_probe((pca_train, found.train_y), (pca_test, found.test_y))
    baselines = {
        "MSE": {f"PCA-{config['pca']}": pca_error, "mean picture": _mean_error(train_x, test_x)},
        "probe accuracy": {f"PCA-{config['pca']}": pca_probe, "majority": majority(found.test_y)},
    }
    if trainer.options.is_variational:
        metrics = {"-ELBO, nats": logs["eval_neg_elbo"], **metrics}
        baselines["-ELBO, nats"] = {"pixel means": _coin_nats(train_x, test_x)}
        if trainer.options.reconstruction == "bce":
            metrics["NLL bound, 64 samples"] = _bound(trainer, test_x)
    if "eval_perplexity" in logs:
        metrics["codes in use"] = logs["eval_perplexity"]
    metrics["probe accuracy"] = probe
    metrics["probe over PCA, points"] = 100 * (probe - pca_probe)
    return Measured(metrics, seconds, trainer.global_step, baselines)


def run_texts(config: Mapping[str, Any], seed: int) -> Measured:
    """Train on bags of words; perplexity a word and a probe of the test texts."""
    found = load_texts(config["data"])
    words = vocabulary((text for text, _ in found.train), config["num_words"], skip=config["skip"])
    train_x, test_x = (bags([text for text, _ in part], words) for part in (found.train, found.test))
    train_y, test_y = (torch.tensor([label for _, label in part]) for part in (found.train, found.test))
    trainer = _trained(config, train_x, test_x, seed)
    seconds, logs = timed_training(trainer), trainer.evaluate()
    num_words = float(test_x.sum())
    nats = logs["eval_neg_elbo" if trainer.options.is_variational else "eval_epoch_loss"]
    # A plain one's loss is a mean over the numbers of a row.
    per_row = nats if trainer.options.is_variational else nats * len(words)
    share = (train_x.sum(0) + 1) / (train_x.sum() + len(words))
    unigram = math.exp(-float((test_x * share.log()).sum()) / num_words)
    probe = linear_probe((encoded(trainer, train_x), train_y), (encoded(trainer, test_x), test_y))
    pca_train, pca_test, _ = pca(rows_of(train_x.log1p()), rows_of(test_x.log1p()), config["pca"])
    baselines = {
        "perplexity": {"unigram": unigram},
        "probe accuracy": {
            f"PCA-{config['pca']} of log counts": linear_probe((pca_train, train_y), (pca_test, test_y)),
            "majority": majority(test_y),
        },
    }
    metrics = {"perplexity": math.exp(per_row * len(test_x) / num_words), "probe accuracy": probe}
    return Measured(metrics, seconds, trainer.global_step, baselines)


def _trained(config: Mapping[str, Any], train_x: Tensor, test_x: Tensor, seed: int) -> AutoencoderTrainer:
    torch.manual_seed(seed)
    name, net = config["net"]
    shape = {"shape": tuple(train_x.shape[1:])} if name == "mlp_autoencoder" else _picture(train_x)
    return AutoencoderTrainer(
        build_net(name, {**net, **shape}),
        quiet_config(seed=seed, **config["training"]),
        train_x,
        test_x,
        options=AutoencoderOptions(num_samples=0, **config["options"]),
    )


def _picture(x: Tensor) -> dict[str, int]:
    return {"channels": x.shape[1], "side": x.shape[2]}


def _mean_error(train_x: Tensor, test_x: Tensor) -> float:
    return float((test_x - train_x.mean(0)).square().mean())


def _coin_nats(train_x: Tensor, test_x: Tensor) -> float:
    share = train_x.mean(0).clamp(1e-3, 1 - 1e-3)
    nats = -(test_x * share.log() + (1 - test_x) * (1 - share).log())
    return float(nats.flatten(1).sum(1).mean())


def _bound(trainer: AutoencoderTrainer, test_x: Tensor) -> float:
    torch.manual_seed(0)
    trainer.model.eval()
    parts = [float(trainer.neg_iwae(part, 64)) * len(part) for part in torch.split(test_x, 500)]
    return sum(parts) / len(test_x)


_MLP = ("mlp_autoencoder", {"hidden": (400,), "latent_dim": 20, "variational": True})
_CONV = ("conv_autoencoder", {"latent_dim": 32})
_VQ = ("vq_autoencoder", {"num_codes": 128, "code_dim": 16})


def _images(data: str, variant: str, net: tuple[str, dict[str, Any]], options: dict[str, Any]) -> Row:
    config = {
        "data": data,
        "num_train": 8000,
        "num_test": 2000,
        "net": net,
        "options": options,
        "training": {"batch_size": 100, "lr": 2e-3, "lr_scheduler_type": "cosine"},
        "pca": net[1].get("latent_dim", 32),
    }
    name, sha256 = f"autoencoder {variant} {data}", ARCHIVES[data].sha256
    return Row(name, data, sha256, variant, config, run_images, _SOURCES)


def _texts(data: str, variant: str, options: dict[str, Any], *, skip: int) -> Row:
    variational = options["kind"] != "plain"
    config = {
        "data": data,
        "num_words": 2000,
        "skip": skip,
        "net": ("mlp_autoencoder", {"hidden": (256,), "latent_dim": 32, "variational": variational}),
        "options": options,
        "training": {"batch_size": 64, "lr": 1e-3, "lr_scheduler_type": "cosine"},
        "pca": 32,
    }
    name, sha256 = f"autoencoder {variant} {data}", ARCHIVES[data].sha256
    return Row(name, data, sha256, variant, config, run_texts, _SOURCES)


_THREE = (0, 1, 2)
_VAE_GOALS = {"-ELBO, nats": Goal(112, at_least=False)}
_CONV_GOALS = {"MSE": Goal(0.010, at_least=False), "probe over PCA, points": Goal(1.0, at_least=True)}


def rows() -> Iterator[Row]:
    """Every kind on MNIST and Fashion-MNIST, two on CIFAR-10, bags of words on news and film reviews."""
    for data in ("mnist", "fashion_mnist"):
        yield from _kinds(data)
    plain = {"kind": "plain", "max_steps": 1500, "reconstruction": "bce"}
    yield _images("cifar10", "convolutional AE, 32 dims", _CONV, plain)
    yield _images("cifar10", "VQ-VAE, 128 codes", _VQ, {"kind": "vq_vae", "max_steps": 900})
    words = {"reconstruction": "multinomial", "max_steps": 1500}
    for data, skip in (("bbc_news", 40), ("movie_snippets", 20)):
        yield _texts(data, "AE, bag of words", {"kind": "plain", **words}, skip=skip)
        vae = {"kind": "beta_vae", "beta": 1.0, "kl_warmup_steps": 500, **words}
        yield _texts(data, "VAE, bag of words", vae, skip=skip)


def _kinds(data: str) -> Iterator[Row]:
    bce = {"reconstruction": "bce"}
    vae = _images(data, "VAE 784-400-20", _MLP, {"kind": "vae", "max_steps": 5600, **bce})
    conv = _images(data, "convolutional AE, 32 dims", _CONV, {"kind": "plain", "max_steps": 2400, **bce})
    if data == "mnist":
        vae = vae._replace(seeds=_THREE, goals=_VAE_GOALS, published=_PUBLISHED)
        conv = conv._replace(seeds=_THREE, goals=_CONV_GOALS)
    yield vae
    yield conv
    beta = {"kind": "beta_vae", "beta": 4.0, "kl_warmup_steps": 1000, "max_steps": 4000, **bce}
    yield _images(data, "beta-VAE, beta 4, KL warm-up", _MLP, beta)
    yield _images(data, "denoising AE, sigma 0.3", _CONV, {"kind": "denoising", "max_steps": 2400, **bce})
    yield _images(data, "VQ-VAE, 128 codes", _VQ, {"kind": "vq_vae", "max_steps": 1200})
