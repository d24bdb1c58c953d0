"""What rows have in common: quiet configs, a clock for training alone, probes, and words for bags."""

import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]
from torch import Tensor

from workers.train._towhee import Callback, TrainingConfig
from workers.train.base import BaseTrainer

Matrix = np.ndarray[Any, np.dtype[np.float32]]
_NEVER = 10**9


def quiet_config(**fields: Any) -> TrainingConfig:  # noqa: ANN401  Towhee's fields
    """A config that only trains: no prints, no checkpoints but the last, no evaluation."""
    chosen: dict[str, Any] = {
        "output_dir": tempfile.mkdtemp(prefix="training-report-"),
        "print_steps": _NEVER,
        "tensorboard": None,
        "early_stopping": None,
        "model_checkpoint": None,
        "eval_strategy": "no",
        "metric": None,
    }
    return TrainingConfig(**{**chosen, **fields})


class _Clock(Callback):
    """CPU-seconds of this process between the beginning and the end of training."""

    def __init__(self) -> None:
        super().__init__()
        self.began = self.seconds = 0.0

    def on_train_begin(self, logs: dict[str, Any]) -> None:
        del logs
        self.began = time.process_time()

    def on_train_end(self, logs: dict[str, Any]) -> None:
        del logs
        self.seconds = time.process_time() - self.began


def timed_training(trainer: BaseTrainer) -> float:
    """Train to the end; the CPU-seconds that took."""
    clock = _Clock()
    trainer.add_callback(clock)
    trainer.train()
    return clock.seconds


def linear_probe(train: tuple[Matrix, Tensor], test: tuple[Matrix, Tensor]) -> float:
    """Accuracy of a logistic regression on standardised features, (rows, features) and labels (rows,)."""
    scaler = StandardScaler().fit(train[0])
    probe = LogisticRegression(max_iter=500).fit(scaler.transform(train[0]), train[1].numpy())
    return float(probe.score(scaler.transform(test[0]), test[1].numpy()))


def pca(train: Matrix, test: Matrix, num_components: int) -> tuple[Matrix, Matrix, float]:
    """Projections of both, and the mean squared error a number of the test rows rebuilt from theirs."""
    found = PCA(num_components, random_state=0).fit(train)
    projected = found.transform(test)
    error = float(np.mean((found.inverse_transform(projected) - test) ** 2))
    return found.transform(train), projected, error


def rows_of(x: Tensor) -> Matrix:
    """A tensor as rows of numbers."""
    return x.flatten(1).numpy().astype(np.float32)


@torch.no_grad()
def encoded(trainer: BaseTrainer, x: Tensor) -> Matrix:
    """The embeddings of all rows, in eval mode."""
    net: Any = trainer.model.eval()
    return np.concatenate([net.encode(part).numpy() for part in torch.split(x, 500)])


def majority(labels: Tensor) -> float:
    """Accuracy of always guessing the most frequent label."""
    return float(labels.bincount().max()) / len(labels)


_WORD = re.compile(r"[a-z']+")


def words_of(text: str) -> list[str]:
    """Lower-case words."""
    return _WORD.findall(text.lower())


def vocabulary(texts: Iterable[str], size: int, *, skip: int = 0) -> list[str]:
    """The most frequent words, without the first ``skip``, ties in alphabetical order."""
    counts = Counter(word for text in texts for word in words_of(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return ranked[skip : skip + size]


def bags(texts: Sequence[str], words: Sequence[str]) -> Tensor:
    """Counts of ``words`` in each text, (texts, words)."""
    numbers = {word: number for number, word in enumerate(words)}
    found = torch.zeros(len(texts), len(words))
    for row, text in enumerate(texts):
        for word in words_of(text):
            if word in numbers:
                found[row, numbers[word]] += 1
    return found
