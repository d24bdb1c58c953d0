"""Rows of SemiSupervisedTrainer."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD  # type: ignore[import-untyped]
from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
from torch import Tensor

from workers.nets.table import build_net
from workers.train.configs.semi_supervised import SemiSupervisedOptions
from workers.train.data import UNLABELLED, hide_labels, load_images, load_texts, unit_range
from workers.train.data.archives import ARCHIVES
from workers.train.data.vocabularies import UNKNOWN, encode_rows, word_tokenizer
from workers.train.evidence.measure import linear_probe, majority, quiet_config, rows_of, timed_training
from workers.train.evidence.rows import Goal, Measured, Row
from workers.train.trainers import SemiSupervisedTrainer

SOURCES = (
    "workers/train/trainers/semi_supervised.py",
    "workers/train/trainers/partly_labelled.py",
    "workers/train/trainers/views.py",
    "workers/train/configs/semi_supervised.py",
    "workers/train/losses/consistency.py",
    "workers/train/data/augment.py",
    "workers/train/data/labels.py",
)
_IMAGE_SOURCES = (*SOURCES, "workers/nets/classifier.py")
_TEXT_SOURCES = (*SOURCES, "workers/nets/classifier.py", "workers/nets/words.py")


class Task(NamedTuple):
    """What to train with and to test, as the trainer takes it, and the labels by themselves."""

    train: Any
    test: Any
    hidden: Tensor
    test_y: Tensor


def run_images(config: Mapping[str, Any], seed: int) -> Measured:
    """Train on pictures of which a few have a label; the seed also says which."""
    task, num_classes = picture_task(config, seed)
    picture = task.test[0]
    net = {"channels": picture.shape[1], "side": picture.shape[2], "num_classes": num_classes}
    return _measured(
        config,
        seed,
        task,
        ("conv_classifier", {**net, **config["net"]}),
        {"linear, on pixels": linear_on(task)},
    )


def run_words(config: Mapping[str, Any], seed: int) -> Measured:
    """Train on token numbers, with word dropout."""
    found = load_texts(config["data"])
    train, test = ([text for text, _ in part] for part in (found.train, found.test))
    tokenizer = word_tokenizer(train, config["num_words"])
    train_ids, test_ids = (encode_rows(tokenizer, texts, most=config["most"]) for texts in (train, test))
    embedded, num_classes = embedded_task(config, seed)
    hidden, test_y = embedded.hidden, embedded.test_y
    task = Task({"ids": train_ids, "labels": hidden}, {"ids": test_ids, "labels": test_y}, hidden, test_y)
    net = {"vocabulary_size": config["num_words"], "num_classes": num_classes}
    linear = {"linear, on LSA embeddings": linear_on(embedded)}
    return _measured(config, seed, task, ("pooled_words", net), linear)


def run_embeddings(config: Mapping[str, Any], seed: int) -> Measured:
    """Train on embeddings of texts, with noise."""
    task, num_classes = embedded_task(config, seed)
    net = {"num_inputs": task.test[0].shape[1], "hidden": (64,), "num_classes": num_classes}
    return _measured(config, seed, task, ("mlp_classifier", net), {"linear": linear_on(task)})


def picture_task(config: Mapping[str, Any], seed: int) -> tuple[Task, int]:
    """Pictures in 0..1, and how many classes there are."""
    found = load_images(config["data"]).part(config["num_train"], config["num_test"])
    hidden = hide_labels(found.train_y, config["keep"], seed)
    test = (unit_range(found.test_x), found.test_y)
    return Task((unit_range(found.train_x), hidden), test, hidden, found.test_y), len(found.classes)


def embedded_task(config: Mapping[str, Any], seed: int) -> tuple[Task, int]:
    """Embeddings of texts, and how many classes there are."""
    found = load_texts(config["data"])
    train_x, test_x = embeddings([text for text, _ in found.train], [text for text, _ in found.test])
    train_y, test_y = (torch.tensor([label for _, label in part]) for part in (found.train, found.test))
    hidden = hide_labels(train_y, config["keep"], seed)
    return Task((train_x, hidden), (test_x, test_y), hidden, test_y), len(found.classes)


def linear_on(task: Task) -> float:
    """Accuracy of a logistic regression on the labelled rows of inputs that are tensors."""
    few = task.hidden != UNLABELLED
    train = (rows_of(task.train[0][few]), task.hidden[few])
    return linear_probe(train, (rows_of(task.test[0]), task.test_y))


def embeddings(train: list[str], test: list[str], dimension: int = 100) -> tuple[Tensor, Tensor]:
    """Latent semantic analysis (Deerwester et al., 1990) of the training texts, which takes no labels."""
    counts = TfidfVectorizer(max_features=20_000, sublinear_tf=True, stop_words="english")
    train_counts = counts.fit_transform(train)
    found = TruncatedSVD(dimension, random_state=0).fit(train_counts)
    train_x, test_x = (
        torch.from_numpy(found.transform(part).astype(np.float32))
        for part in (train_counts, counts.transform(test))
    )
    mean_F, spread = train_x.mean(0), train_x.std()
    return (train_x - mean_F) / spread, (test_x - mean_F) / spread


def _measured(
    config: Mapping[str, Any],
    seed: int,
    task: Task,
    net: tuple[str, dict[str, Any]],
    baselines: dict[str, float],
) -> Measured:
    alone = _trained(config, seed, task, net, {"method": "supervised", **_shared(config["options"])})
    alone.train()
    trainer = _trained(config, seed, task, net, config["options"])
    seconds = timed_training(trainer)
    accuracy = trainer.evaluate()["eval_epoch_metric"]
    baselines = {
        "supervised only": alone.evaluate()["eval_epoch_metric"],
        **baselines,
        "majority": majority(task.test_y),
    }
    metrics = {"accuracy": accuracy}
    if trainer.options.ema is not None:
        trainer.networks_by_name["main"].ema = None
        metrics["accuracy, weights not averaged"] = trainer.evaluate()["eval_epoch_metric"]
    return Measured(metrics, seconds, trainer.global_step, {"accuracy": baselines})


def _trained(
    config: Mapping[str, Any],
    seed: int,
    task: Task,
    net: tuple[str, dict[str, Any]],
    options: Mapping[str, Any],
) -> SemiSupervisedTrainer:
    torch.manual_seed(seed)
    return SemiSupervisedTrainer(
        build_net(*net),
        quiet_config(seed=seed, metric="Accuracy", **config["training"]),
        task.train,
        task.test,
        options=SemiSupervisedOptions(**options),
    )


def _shared(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a run with labels alone has in common with the others."""
    names = ("augmentation", "max_steps", "word_dropout", "feature_noise", "ema")
    return {name: options[name] for name in names if name in options}


_METHODS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "FixMatch": ("fixmatch", {}),
    "Mean Teacher": (
        "mean_teacher",
        {
            "lambda_u": 50.0,
            "ramp": "sigmoid",
            "ramp_steps": 300,
            "student_view": "strong",
            "unlabelled_ratio": 3,
        },
    ),
    "pseudo-label": ("pseudo_label", {"ramp_steps": 600}),
}
_TEXT_OPTIONS: Mapping[str, dict[str, Any]] = {
    "FixMatch": {"threshold": 0.8},
    "Mean Teacher": {"lambda_u": 10.0, "ramp_steps": 200},
    "pseudo-label": {"ramp_steps": 300},
}
_TRAINING = {"batch_size": 64, "lr": 2e-3, "lr_scheduler_type": "cosine"}
_TEXT_TRAINING = {"batch_size": 20, "lr": 5e-3, "lr_scheduler_type": "cosine"}
_PUBLISHED = {"FixMatch": {"accuracy": "0.9514, CIFAR-10, 250 labels (TorchSSL); none found for MNIST"}}
_GOALS = {"FixMatch": 0.94, "Mean Teacher": 0.92}
_THREE = (0, 1, 2)


def rows() -> Iterator[Row]:
    """Every method on two image sets and two text sets, with 100 labels, as many of each class."""
    for data in ("mnist", "fashion_mnist"):
        for variant in _METHODS:
            yield _images(data, variant)
    for data, keep in (("bbc_news", 20), ("spam_assassin", 50)):
        for variant in _METHODS:
            yield _words(data, variant, keep)
        yield _embeddings(data, keep)


def _images(data: str, variant: str) -> Row:
    method, options = _METHODS[variant]
    config = {
        "data": data,
        "num_train": 8000,
        "num_test": 2000,
        "keep": 10,
        "net": {"width": 16, "dimension": 64},
        "options": {"method": method, "augmentation": "digits", "max_steps": 1200, **options},
        "training": _TRAINING,
    }
    row = Row(
        f"semi-supervised {variant} {data}",
        data,
        ARCHIVES[data].sha256,
        f"{variant}, 100 labels",
        config,
        run_images,
        _IMAGE_SOURCES,
    )
    if data != "mnist":
        return row
    row = row._replace(published=_PUBLISHED.get(variant, {}))
    if variant in _GOALS:
        row = row._replace(goals={"accuracy": Goal(_GOALS[variant], at_least=True)}, seeds=_THREE)
    return row


def _words(data: str, variant: str, keep: int) -> Row:
    method, options = _METHODS[variant]
    config = {
        "data": data,
        "keep": keep,
        "num_words": 5000,
        "most": 200,
        "options": {
            "method": method,
            "augmentation": "words",
            "word_dropout": (0.2, 0.7),
            "unknown_word": UNKNOWN,
            "max_steps": 600,
            **options,
            **_TEXT_OPTIONS[variant],
        },
        "training": _TEXT_TRAINING,
    }
    return Row(
        f"semi-supervised {variant} {data}",
        data,
        ARCHIVES[data].sha256,
        f"{variant}, 100 labels, word dropout",
        config,
        run_words,
        _TEXT_SOURCES,
    )


def _embeddings(data: str, keep: int) -> Row:
    config = {
        "data": data,
        "keep": keep,
        "options": {"method": "fixmatch", "augmentation": "features", "max_steps": 600},
        "training": _TEXT_TRAINING,
    }
    return Row(
        f"semi-supervised FixMatch embeddings {data}",
        data,
        ARCHIVES[data].sha256,
        "FixMatch, 100 labels, LSA embeddings with noise",
        config,
        run_embeddings,
        _TEXT_SOURCES,
    )
