"""Fully connected nets that play against each other, for pictures and for rows of numbers.

They are those of Salimans et al. (2016) for MNIST: noise before every layer of the discriminator, whose
weights are normalised (Salimans and Kingma, 2016).
Legend: B batch, Z latent, K classes, F numbers of the last hidden layer.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from workers.nets.parts import Entries, Net, NetConfig, NetEntry
from workers.nets.validation import Problem

Width = Annotated[int, Meta(ge=1, le=8192)]
Noise = Annotated[float, Meta(ge=0)]
#: Standard deviation of the weights before they are normalised (Salimans and Kingma, 2016): the longer they
# are, the less an update turns them.
_WEIGHT_STD = 0.1


class MlpGanConfig(NetConfig, frozen=True):
    """A generator and a discriminator of rows of ``shape``.

    Attributes:
        shape: of a row: (C, H, W) of pictures in 0..1, or (N,).
        latent_dim: numbers that a row is made from.
        generator, discriminator: units of the hidden layers.
        output: unit for rows in 0..1, linear for any.
        num_outputs: numbers that the discriminator gives for a row.
        input_noise, hidden_noise: standard deviation of what is added before the layers in training.
        scales: of the discriminator's weights. Fixed, as Salimans et al. have them in hidden layers, these
        pass on a variance of 1 at first and never outgrow their noise: for long runs on pictures. Learned,
        they begin as torch's layers do, which is quicker.
    """

    shape: tuple[Width, ...] = (1, 28, 28)
    latent_dim: Annotated[int, Meta(ge=1, le=4096)] = 100
    generator: tuple[Width, ...] = (500, 500)
    discriminator: tuple[Width, ...] = (1000, 500, 250, 250, 250)
    output: Literal["unit", "linear"] = "unit"
    num_outputs: Annotated[int, Meta(ge=1, le=10_001)] = 1
    input_noise: Noise = 0.3
    hidden_noise: Noise = 0.5
    scales: Literal["learned", "fixed"] = "learned"

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


class _Moments(NamedTuple):
    """Of the numbers that a layer is given, before the noise."""

    mean: float
    variance: float


def _as_torch_begins(num_inputs: int, num_outputs: int, given: _Moments, noise: float) -> nn.Linear:
    del given, noise
    layer = nn.Linear(num_inputs, num_outputs)
    weight_norm(layer)
    return layer


def _of_variance_one(num_inputs: int, num_outputs: int, given: _Moments, noise: float) -> nn.Linear:
    """A layer that gives a mean of 0 and a variance of 1.

    Salimans and Kingma (2016, section 3) find the scales in a first batch; moments known beforehand do as
    well, and the net is complete when it is built.
    """
    layer = nn.Linear(num_inputs, num_outputs)
    nn.init.normal_(layer.weight, std=_WEIGHT_STD)
    weight_norm(layer)
    with torch.no_grad():
        _scales_of(layer).fill_((given.variance + noise**2) ** -0.5)
        layer.bias.copy_(-given.mean * layer.weight.sum(1))
    return layer


#: Of a pixel in 0..1 roughly, around whatever mean (the variance is 0.067 on MNIST); of standardised numbers.
_ROWS: Mapping[str, _Moments] = MappingProxyType(
    {"unit": _Moments(0.0, 1 / 16), "linear": _Moments(0.0, 1.0)}
)
#: Of relu(x), x standard normal.
_RELU = _Moments((2 * math.pi) ** -0.5, 0.5 - 0.5 / math.pi)
_LAYERS: Mapping[str, Callable[[int, int, _Moments, float], nn.Linear]] = MappingProxyType(
    {"learned": _as_torch_begins, "fixed": _of_variance_one}
)


def _scales_of(layer: nn.Linear) -> nn.Parameter:
    """The lengths of the weights (outputs, 1) that `weight_norm` keeps apart."""
    return layer.get_parameter("parametrizations.weight.original0")


class MlpDiscriminator(nn.Module):
    """Scores (B, outputs) of rows."""

    num_classes = 0

    def __init__(self, config: MlpGanConfig) -> None:
        super().__init__()
        make = _LAYERS[config.scales]
        layers: list[nn.Module] = [nn.Flatten()]
        before, given, noise = math.prod(config.shape), _ROWS[config.output], config.input_noise
        for after in config.discriminator:
            layer = make(before, after, given, noise)
            _scales_of(layer).requires_grad = config.scales == "learned"
            layers += [_Noise(noise), layer, nn.ReLU()]
            before, given, noise = after, _RELU, config.hidden_noise
        self.layers = nn.Sequential(*layers)
        self.noise = _Noise(noise)
        self.head = make(before, config.num_outputs, given, noise)
        self.dimension = before

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer, before its noise (B, F)."""
        features: Tensor = self.layers(x)
        return features

    def encode(self, x: Tensor) -> Tensor:
        """The last hidden layer (B, F)."""
        return self.features(x)

    def scores(self, features_BF: Tensor, classes_B: Tensor | None = None) -> Tensor:
        """Scores (B, outputs) of `features`."""
        del classes_B
        scores: Tensor = self.head(self.noise(features_BF))
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
