"""The classifier in whose features generated pictures are judged: one for all rows of a data set."""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.decomposition import PCA  # type: ignore[import-untyped]
from torch import Tensor

from workers.nets.classifier import ConvClassifierConfig
from workers.train.data import load_images, unit_range
from workers.train.fid import FeatureSums, Judge, fit_judge, frechet_distance

#: What it is built as, what it is fitted with, and for how long.
WIDTH, DIMENSION, DROPOUT, SEED, NUM_EPOCHS = 16, 64, 0.3, 0, 10
#: Names of what is compared with the test pictures, and the components of one of them.
REAL, NOISE, NUM_COMPONENTS = "real against real", "uniform noise", 32


class Bench(NamedTuple):
    """A data set cut to its part in 0..1, its judge, and how far from the test pictures others are by it.

    ``apart`` holds the FID of training pictures, of uniform noise, of pictures whose pixels are drawn one by
    one from the training pictures, and of a normal of their first 32 principal components.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    judge: Judge
    accuracy: float
    real: FeatureSums
    apart: dict[str, float]


def make_bench(data: str, num_train: int, num_test: int) -> Bench:
    """The bench of a data set; always the same one."""
    found = load_images(data).part(num_train, num_test)
    train_x, test_x = unit_range(found.train_x), unit_range(found.test_x)
    config = ConvClassifierConfig(
        channels=train_x.shape[1], side=train_x.shape[2], width=WIDTH, dimension=DIMENSION, dropout=DROPOUT
    )
    judge = fit_judge(train_x, found.train_y, config=config, num_epochs=NUM_EPOCHS, seed=SEED)
    real = judge.of(test_x)
    others = {
        REAL: train_x[:num_test],
        NOISE: _noise(test_x),
        "pixels one by one": one_by_one(train_x, num_test),
        "normal of PCA-32": _normal(train_x, num_test),
    }
    return Bench(
        train_x,
        found.train_y,
        test_x,
        found.test_y,
        judge,
        judge.accuracy(test_x, found.test_y),
        real,
        {name: frechet_distance(judge.of(x), real) for name, x in others.items()},
    )


def _noise(x_NCHW: Tensor) -> Tensor:
    return torch.rand(x_NCHW.shape, generator=torch.Generator().manual_seed(SEED))


def one_by_one(x_NCHW: Tensor, count: int) -> Tensor:
    """Pictures in which every number comes from a picture of its own."""
    rows = x_NCHW.flatten(1)
    which = torch.randint(0, len(rows), (count, rows.shape[1]), generator=torch.Generator().manual_seed(SEED))
    return rows.gather(0, which).view(count, *x_NCHW.shape[1:])


def _normal(x_NCHW: Tensor, count: int) -> Tensor:
    found = PCA(NUM_COMPONENTS, random_state=SEED).fit(x_NCHW.flatten(1).numpy())
    drawn = np.random.default_rng(SEED).standard_normal((count, NUM_COMPONENTS))
    rows = found.inverse_transform(drawn * np.sqrt(found.explained_variance_))
    return torch.from_numpy(rows).float().clamp(0, 1).view(count, *x_NCHW.shape[1:])
