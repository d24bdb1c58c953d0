"""The classifier in whose features generated pictures are judged: one for all rows of a data set."""

from typing import NamedTuple

import torch
from torch import Tensor

from workers.nets.classifier import ConvClassifierConfig
from workers.train.data import load_images, unit_range
from workers.train.fid import FeatureSums, Judge, fit_judge, frechet_distance

#: What it is built as, what it is fitted with, and for how long.
WIDTH, DIMENSION, DROPOUT, SEED, NUM_EPOCHS = 16, 64, 0.3, 0, 10


class Bench(NamedTuple):
    """A data set cut to its part in 0..1, its judge, and what that makes of real pictures and of noise."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    judge: Judge
    accuracy: float
    real: FeatureSums
    real_against_real: float
    noise: float


def make_bench(data: str, num_train: int, num_test: int) -> Bench:
    """The bench of a data set; always the same one."""
    found = load_images(data).part(num_train, num_test)
    train_x, test_x = unit_range(found.train_x), unit_range(found.test_x)
    config = ConvClassifierConfig(
        channels=train_x.shape[1], side=train_x.shape[2], width=WIDTH, dimension=DIMENSION, dropout=DROPOUT
    )
    judge = fit_judge(train_x, found.train_y, config=config, num_epochs=NUM_EPOCHS, seed=SEED)
    real = judge.of(test_x)
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.rand(test_x.shape, generator=generator)
    return Bench(
        train_x,
        found.train_y,
        test_x,
        found.test_y,
        judge,
        judge.accuracy(test_x, found.test_y),
        real,
        frechet_distance(judge.of(train_x[:num_test]), real),
        frechet_distance(judge.of(noise), real),
    )
