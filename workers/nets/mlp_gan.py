"""Fully connected nets that play against each other, for pictures and for rows of numbers.

They are those of Salimans et al. (2016) for MNIST: noise before every layer of the discriminator, whose
weights are normalised (Salimans and Kingma, 2016).
Legend: B batch, Z latent, K classes, F numbers of the last hidden layer.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from workers.nets.parts import Entries, Net, NetConfig, NetEntry
from workers.nets.validation import Problem

Width = Annotated[int, Meta(ge=1, le=8192)]
Noise = Annotated[float, Meta(ge=0)]


class MlpGanConfig(NetConfig, frozen=True):
    """A generator and a discriminator of rows of ``shape``.

    Attributes:
        shape: of a row: (C, H, W) of pictures in 0..1, or (N,).
        latent_dim: numbers that a row is made from.
        generator, discriminator: units of the hidden layers.
        output: unit for rows in 0..1, linear for any.
        num_outputs: numbers that the discriminator gives for a row.
        input_noise, hidden_noise: standard deviation of what is added before the layers in training.
    """

    shape: tuple[Width, ...] = (1, 28, 28)
    latent_dim: Annotated[int, Meta(ge=1, le=4096)] = 100
    generator: tuple[Width, ...] = (500, 500)
    discriminator: tuple[Width, ...] = (1000, 500, 250, 250, 250)
    output: Literal["unit", "linear"] = "unit"
    num_outputs: Annotated[int, Meta(ge=1, le=10_001)] = 1
    input_noise: Noise = 0.3
    hidden_noise: Noise = 0.5

    def problems(self) -> Iterator[Problem]:
        """Layers have to be there."""
        if len(self.shape) not in {1, 3}:
            yield Problem(("shape",), "is (numbers,) or (channels, height, width)")
        for name in ("generator", "discriminator"):
            if not getattr(self, name):
                yield Problem((name,), "needs at least one layer")


class MlpGenerator(nn.Module):
    """Rows of z (B, Z)."""

    #: Not conditional.
    num_classes = 0

    def __init__(self, config: MlpGanConfig) -> None:
        super().__init__()
        self.latent_dim = config.latent_dim
        layers: list[nn.Module] = []
        for before, after in pairwise((config.latent_dim, *config.generator)):
            layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.Softplus()]
        layers += [nn.Linear(config.generator[-1], math.prod(config.shape)), nn.Unflatten(1, config.shape)]
        if config.output == "unit":
            layers.append(nn.Sigmoid())
        self.layers = nn.Sequential(*layers)

    def forward(self, z_BZ: Tensor, classes_B: Tensor | None = None) -> Tensor:
        """Rows; there are no classes to ask for."""
        del classes_B
        rows: Tensor = self.layers(z_BZ)
        return rows


class _Noise(nn.Module):
    """Adds normal noise in training."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self._level = level

    def forward(self, x: Tensor) -> Tensor:
        return x + self._level * torch.randn_like(x) if self.training and self._level else x


class MlpDiscriminator(nn.Module):
    """Scores (B, outputs) of rows."""

    num_classes = 0

    def __init__(self, config: MlpGanConfig) -> None:
        super().__init__()
        widths = (math.prod(config.shape), *config.discriminator)
        layers: list[nn.Module] = [nn.Flatten(), _Noise(config.input_noise)]
        for before, after in pairwise(widths):
            layers += [weight_norm(nn.Linear(before, after)), nn.ReLU(), _Noise(config.hidden_noise)]
        self.layers = nn.Sequential(*layers)
        self.head = weight_norm(nn.Linear(widths[-1], config.num_outputs))
        self.dimension = widths[-1]

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer (B, F)."""
        features: Tensor = self.layers(x)
        return features

    def encode(self, x: Tensor) -> Tensor:
        """The last hidden layer (B, F)."""
        return self.features(x)

    def scores(self, features_BF: Tensor, classes_B: Tensor | None = None) -> Tensor:
        """Scores (B, outputs) of `features`."""
        del classes_B
        scores: Tensor = self.head(features_BF)
        return scores

    def forward(self, x: Tensor, classes_B: Tensor | None = None) -> Tensor:
        """Scores (B, outputs)."""
        return self.scores(self.features(x), classes_B)


class MlpGan(Net):
    """Both nets. Called with z it gives rows; its embedding is the discriminator's last hidden layer."""

    def __init__(self, config: MlpGanConfig) -> None:
        super().__init__()
        self.generator = MlpGenerator(config)
        self.discriminator = MlpDiscriminator(config)

    @property
    def dimension(self) -> int:
        """F."""
        return self.discriminator.dimension

    def encode(self, inputs: Tensor) -> Tensor:
        """Features (B, F) of rows."""
        return self.discriminator.encode(inputs)

    def forward(self, z_BZ: Tensor, classes_B: Tensor | None = None) -> Tensor:
        """Rows."""
        rows: Tensor = self.generator(z_BZ, classes_B)
        return rows


class MlpGanEncoder(Net):
    """The discriminator of `MlpGan` alone, under the same names."""

    def __init__(self, config: MlpGanConfig) -> None:
        super().__init__()
        self.discriminator = MlpDiscriminator(config)

    @property
    def dimension(self) -> int:
        """F."""
        return self.discriminator.dimension

    def encode(self, inputs: Tensor) -> Tensor:
        """Features (B, F) of rows."""
        return self.discriminator.encode(inputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """The embedding."""
        return self.encode(inputs)


ENTRIES: Entries = MappingProxyType(
    {"mlp_gan": NetEntry(MlpGanConfig, MlpGan), "mlp_gan_encoder": NetEntry(MlpGanConfig, MlpGanEncoder)}
)
