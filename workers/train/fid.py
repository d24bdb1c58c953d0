"""How far two sets of pictures are apart in the features of a classifier.

Legend: N rows, D features, K classes.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from torch import Tensor, nn

from workers.nets.classifier import ConvClassifierConfig
from workers.nets.table import build_net
from workers.train.data.augment import weak_digits
from workers.train.rng import isolated_rng

#: A class with less than this share of an even part counts as missing.
_MISSING_SHARE = 0.1


class Moments:
    """Mean and covariance of rows: as sums, which can be added to, and added up over processes."""

    def __init__(self, dimension: int, device: torch.device | None = None) -> None:
        self.count = _zeros(1, device=device)
        self.total = _zeros(dimension, device=device)
        self.products = _zeros(dimension, dimension, device=device)

    @classmethod
    def of(cls, count: Tensor, total: Tensor, products: Tensor) -> "Moments":
        """The same from its `tensors`."""
        made = cls(0)
        made.count, made.total, made.products = count, total, products
        return made

    def add(self, rows_ND: Tensor) -> None:
        """Take some more rows in."""
        rows = rows_ND.double()
        self.count += len(rows)
        self.total += rows.sum(0)
        self.products += rows.T @ rows

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All the sums."""
        return self.count, self.total, self.products

    @property
    def mean(self) -> Tensor:
        """(D,)."""
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """(D, D), unbiased.

        Raises:
            ValueError: there are less than two rows.
        """
        if float(self.count) < 2:  # noqa: PLR2004
            raise ValueError("a covariance needs at least two rows")
        mean = self.mean
        return (self.products - self.count * torch.outer(mean, mean)) / (self.count - 1)


class FeatureSums(Moments):
    """What a classifier makes of pictures: moments of its features, and how often it sees each class."""

    def __init__(self, dimension: int, num_classes: int, device: torch.device | None = None) -> None:
        super().__init__(dimension, device)
        self.classes = _zeros(num_classes, device=device)

    def see(self, features_ND: Tensor, logits_NK: Tensor) -> None:
        """Take some more pictures in."""
        self.add(features_ND)
        self.classes += F.one_hot(logits_NK.argmax(1), logits_NK.shape[1]).sum(0)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All the sums."""
        return *super().tensors, self.classes

    @property
    def num_missing(self) -> int:
        """Classes that make up less than a tenth of an even share."""
        least = _MISSING_SHARE * float(self.count) / len(self.classes)
        return int((self.classes < least).sum())

    @property
    def class_entropy(self) -> float:
        """Entropy of the classes, in bits."""
        share = self.classes[self.classes > 0] / self.count
        return float(-(share * share.log2()).sum())


def _zeros(*shape: int, device: torch.device | None) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64, device=device)


def frechet_distance(one: Moments, other: Moments) -> float:
    """The squared Frechet distance of two normals with these moments (Heusel et al., 2017, equation 6).

    The trace of the root of a product of covariances is that of the symmetric product, whose eigenvalues
    can't leave the real line.
    """
    root = _root(one.covariance)
    values = torch.linalg.eigvalsh(root @ other.covariance @ root)
    trace = values.clamp(min=0).sqrt().sum()
    apart = (one.mean - other.mean).square().sum()
    return float(apart + one.covariance.trace() + other.covariance.trace() - 2 * trace)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


class Judge:
    """A classifier (`encode` and logits) whose features are compared, and what it makes of pictures."""

    def __init__(self, net: nn.Module, num_classes: int) -> None:
        self.net: Any = net.eval()
        self.num_classes = num_classes

    def sums(self) -> FeatureSums:
        """Nothing yet."""
        device = next(self.net.parameters()).device
        return FeatureSums(self.net.dimension, self.num_classes, device)

    @torch.no_grad()
    def look(self, x_NCHW: Tensor, sums: FeatureSums) -> None:
        """Take pictures in 0..1 into the sums."""
        self.net.eval()
        features = self.net.encode(x_NCHW)
        sums.see(features, self.net.head(features))

    def of(self, x_NCHW: Tensor, rows: int = 500) -> FeatureSums:
        """The sums of many pictures."""
        sums = self.sums()
        for part in torch.split(x_NCHW, rows):
            self.look(part, sums)
        return sums

    @torch.no_grad()
    def accuracy(self, x_NCHW: Tensor, y_N: Tensor) -> float:
        """The share of pictures that it names rightly."""
        self.net.eval()
        hits = [
            (self.net(part).argmax(1) == y).sum()
            for part, y in zip(torch.split(x_NCHW, 500), torch.split(y_N, 500), strict=True)
        ]
        return float(torch.stack(hits).sum()) / len(y_N)


def fit_judge(
    x_NCHW: Tensor,
    y_N: Tensor,
    *,
    config: ConvClassifierConfig | None = None,
    num_epochs: int = 10,
    seed: int = 0,
) -> Judge:
    """Fit the small convolutional classifier to labelled pictures in 0..1, moved by up to a 14th of the side.

    The same data and seed give the same judge; random generators are as before afterwards.
    """
    if config is None:
        config = ConvClassifierConfig(
            channels=x_NCHW.shape[1],
            side=x_NCHW.shape[2],
            num_classes=max(2, int(y_N.max()) + 1),
            dropout=0.3,
        )
    with isolated_rng(seed), torch.enable_grad():
        net = build_net("conv_classifier", config).to(x_NCHW.device)
        _fit(net, x_NCHW, y_N, num_epochs)
    return Judge(net, config.num_classes)


def _fit(net: nn.Module, x_NCHW: Tensor, y_N: Tensor, num_epochs: int, batch_size: int = 64) -> None:
    num_steps = num_epochs * -(-len(x_NCHW) // batch_size)
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=num_steps)
    generator = torch.Generator().manual_seed(num_steps)
    net.train()
    for _ in range(num_epochs):
        order = torch.randperm(len(x_NCHW))
        for rows in torch.split(order, batch_size):
            optimizer.zero_grad()
            F.cross_entropy(net(weak_digits(x_NCHW[rows], generator)), y_N[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
