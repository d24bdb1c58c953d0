"""Rows of SemiSupervisedGANTrainer."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from workers.nets.table import build_net
from workers.train.configs.semi_supervised_gan import SemiSupervisedGANOptions
from workers.train.data.archives import ARCHIVES
from workers.train.evidence.measure import majority, quiet_config, timed_training
from workers.train.evidence.rows import Goal, Measured, Row
from workers.train.evidence.semi_supervised import Task, embedded_task, linear_on, picture_task
from workers.train.trainers import SemiSupervisedGANTrainer

_SOURCES = (
    "workers/train/trainers/semi_supervised_gan.py",
    "workers/train/trainers/gan.py",
    "workers/train/trainers/partly_labelled.py",
    "workers/train/configs/semi_supervised_gan.py",
    "workers/train/losses/salimans.py",
    "workers/train/data/labels.py",
)
_MLP_SOURCES = (*_SOURCES, "workers/nets/mlp_gan.py")


def run_images(config: Mapping[str, Any], seed: int) -> Measured:
    """Train on pictures of which a few have a label; the seed also says which."""
    return _measured(config, seed, *picture_task(config, seed))


def run_embeddings(config: Mapping[str, Any], seed: int) -> Measured:
    """Train on embeddings of texts."""
    return _measured(config, seed, *embedded_task(config, seed))


def _measured(config: Mapping[str, Any], seed: int, task: Task, num_classes: int) -> Measured:
    net = {"shape": tuple(task.test[0].shape[1:]), "num_outputs": num_classes, **config["net"]}
    alone = _trained(config, seed, task, net, lambda_u=0.0)
    alone.train()
    trainer = _trained(config, seed, task, net)
    seconds = timed_training(trainer)
    baselines = {
        "supervised only": alone.evaluate()["eval_epoch_metric"],
        "linear": linear_on(task),
        "majority": majority(task.test_y),
    }
    metrics = {"accuracy": trainer.evaluate()["eval_epoch_metric"]}
    return Measured(metrics, seconds, trainer.global_step, {"accuracy": baselines})


def _trained(
    config: Mapping[str, Any], seed: int, task: Task, net: dict[str, Any], **options: float
) -> SemiSupervisedGANTrainer:
    torch.manual_seed(seed)
    return SemiSupervisedGANTrainer(
        build_net("mlp_gan", net),
        quiet_config(seed=seed, metric="Accuracy", **config["training"]),
        task.train,
        task.test,
        options=SemiSupervisedGANOptions(num_samples=0, **{**config["options"], **options}),
    )


_PUBLISHED = {"accuracy": "0.9907 ± 0.0007, 60,000 digits, 100 labels (Salimans et al., 2016, Table 1)"}


def rows() -> Iterator[Row]:
    """On two image sets and on embeddings of two text sets, with 100 labels, as many of each class."""
    mnist = _images("mnist", 9000)
    yield mnist._replace(goals={"accuracy": Goal(0.93, at_least=True)}, seeds=(0, 1, 2), published=_PUBLISHED)
    yield _images("fashion_mnist", 3500)
    yield _embeddings("bbc_news", 20)
    yield _embeddings("spam_assassin", 50)


def _images(data: str, max_steps: int) -> Row:
    """The nets, the rate and the unlabelled rows of Salimans et al., whose batches hold each label 10 times.

    Chosen without the test digits and the report's seeds: by 3,000 further training digits, seed 11 gives
    0.950, and seed 10 with 1,000 steps more and scales out of a first batch 0.950. Moved pictures
    (DiffAugment) gave 0.825 after 4,000 steps, against 0.917. Each label twice a batch, and bfloat16, learn
    no less a step, which takes 37 ms rather than 60.
    """
    config = {
        "data": data,
        "num_train": 8000,
        "num_test": 2000,
        "keep": 10,
        "net": {"scales": "fixed"},
        "options": {"unlabelled_ratio": 5, "precision": "bfloat16", "max_steps": max_steps},
        "training": {"batch_size": 20, "lr": 3e-3, "lr_scheduler_type": "linear"},
    }
    name = f"semi-supervised GAN {data}"
    variant = "GAN of K + 1 classes, feature matching, 100 labels"
    return Row(name, data, ARCHIVES[data].sha256, variant, config, run_images, _MLP_SOURCES)


def _embeddings(data: str, keep: int) -> Row:
    config = {
        "data": data,
        "keep": keep,
        "net": {"output": "linear", "latent_dim": 50, "generator": (128, 128), "discriminator": (128, 64)},
        "options": {"max_steps": 400},
        "training": {"batch_size": 50, "lr": 3e-3, "lr_scheduler_type": "linear"},
    }
    name = f"semi-supervised GAN embeddings {data}"
    variant = "GAN of K + 1 classes, 100 labels, LSA embeddings"
    return Row(name, data, ARCHIVES[data].sha256, variant, config, run_embeddings, _MLP_SOURCES)
