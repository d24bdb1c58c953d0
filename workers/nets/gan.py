"""DCGAN-class nets (Radford et al., 2016) for pictures of 28, 32 or 64 pixels, conditional or not.

Pictures are in 0..1 on the outside and in -1..1 within.
Legend: B batch, C channels, H height, W width, Z latent, K classes, F numbers of the last maps.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from msgspec import Meta
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from workers.nets.parts import Entries, Net, NetConfig, NetEntry
from workers.nets.validation import Problem

#: By the side of the pictures: how often it is halved on the way down, and what is left then.
_HALVINGS: Mapping[int, int] = MappingProxyType({28: 2, 32: 3, 64: 4})
_SLOPE = 0.2
#: `Discriminator.encode` keeps so many means along each axis of its maps.
_POOLED = 2


class GanConfig(NetConfig, frozen=True):
    """A generator and the discriminator that mirrors it.

    Attributes:
        channels, side: of the pictures.
        latent_dim: numbers that a picture is made from.
        width: maps of the discriminator's first layer; each halving doubles them.
        hidden: units of a fully connected layer of the discriminator, by which it sees pictures as wholes;
        0 for none.
        num_classes: classes that pictures are asked for by, 0 for a net that is not conditional.
        discriminator_norm: batch (not with a penalty on slopes), spectral (Miyato et al., 2018), layer or
        none.
        num_outputs: numbers that the discriminator gives for a picture.
    """

    channels: Annotated[int, Meta(ge=1, le=4)] = 1
    side: Literal[28, 32, 64] = 28
    latent_dim: Annotated[int, Meta(ge=1, le=4096)] = 64
    width: Annotated[int, Meta(ge=4, le=1024)] = 32
    hidden: Annotated[int, Meta(ge=0, le=4096)] = 0
    num_classes: Annotated[int, Meta(ge=0, le=10_000)] = 0
    discriminator_norm: Literal["batch", "spectral", "layer", "none"] = "batch"
    num_outputs: Annotated[int, Meta(ge=1, le=10_001)] = 1

    def problems(self) -> Iterator[Problem]:
        """A class is asked for by one score."""
        if self.num_classes == 1:
            yield Problem(("num_classes",), "is 0 for a net that is not conditional, or at least 2")
        if self.num_classes and self.num_outputs > 1:
            yield Problem(("num_outputs",), "is 1 for a conditional net")

    @property
    def halvings(self) -> int:
        """Layers that halve the side."""
        return _HALVINGS[self.side]

    @property
    def least_side(self) -> int:
        """The side of the last maps."""
        return int(self.side >> self.halvings)

    @property
    def widths(self) -> tuple[int, ...]:
        """Maps of the discriminator's layers."""
        return tuple(self.width << at for at in range(self.halvings))


class Generator(nn.Module):
    """Pictures (B, C, H, W) in 0..1 of z (B, Z) and, when conditional, of classes (B,)."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.latent_dim = config.latent_dim
        self.num_classes = config.num_classes
        down = tuple(reversed(config.widths))
        flat = down[0] * config.least_side**2
        if config.num_classes:
            self.classes = nn.Embedding(config.num_classes, config.latent_dim)
        num_inputs = config.latent_dim * (2 if config.num_classes else 1)
        layers: list[nn.Module] = [
            nn.Linear(num_inputs, flat, bias=False),
            nn.Unflatten(1, (down[0], config.least_side, config.least_side)),
        ]
        for before, after in zip(down, (*down[1:], config.channels), strict=True):
            layers += [
                nn.BatchNorm2d(before),
                nn.ReLU(),
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, z_BZ: Tensor, classes_B: Tensor | None = None) -> Tensor:
        """Pictures.

        Raises:
            ValueError: a conditional net was not told the classes.
        """
        if self.num_classes:
            if classes_B is None:
                raise ValueError("a conditional generator needs classes")
            z_BZ = torch.cat([z_BZ, self.classes(classes_B)], dim=1)
        # (tanh(x) + 1) / 2, which is what DCGAN's last layer gives in the range 0..1.
        return torch.sigmoid(2 * self.layers(z_BZ))


class Discriminator(nn.Module):
    """Scores (B, outputs) of pictures in 0..1.

    A conditional one adds the projection on the class (Miyato and Koyama, 2018).
    """

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.num_classes = config.num_classes
        normed = spectral_norm if config.discriminator_norm == "spectral" else _as_it_is
        before, side = config.channels, int(config.side)
        layers: list[nn.Module] = []
        for at, after in enumerate(config.widths):
            side //= 2
            convolution = nn.Conv2d(before, after, 4, stride=2, padding=1)
            norm = _NORMS[config.discriminator_norm](after, side) if at else []
            layers.append(nn.Sequential(normed(convolution), *norm, nn.LeakyReLU(_SLOPE)))
            before = after
        self.layers = nn.ModuleList(layers)
        self.dimension = _POOLED**2 * sum(config.widths) + config.hidden
        self.num_features = before * side**2
        self.hidden: nn.Module = nn.Identity()
        if config.hidden:
            # Without batch statistics: with them it tells the nets apart before the generator has begun.
            linear = normed(nn.Linear(self.num_features, config.hidden))
            self.hidden = nn.Sequential(linear, nn.LeakyReLU(_SLOPE))
            self.num_features = config.hidden
        self.head = normed(nn.Linear(self.num_features, config.num_outputs))
        if config.num_classes:
            classes = nn.Embedding(config.num_classes, self.num_features)
            # The class weighs about as much as the picture at first, however many features there are.
            nn.init.normal_(classes.weight, std=self.num_features**-0.5)
            self.classes = normed(classes)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """The hidden layer, or without one the last maps, flattened (B, F)."""
        return self._layers(x_BCHW)[-1]

    def encode(self, x_BCHW: Tensor) -> Tensor:
        """Means of all maps over a coarse grid, after DCGAN's authors, and the hidden layer (B, D)."""
        *layers, features_BF = self._layers(x_BCHW)
        pooled = [F.adaptive_avg_pool2d(maps, _POOLED).flatten(1) for maps in layers]
        hidden = [] if isinstance(self.hidden, nn.Identity) else [features_BF]
        return torch.cat([*pooled, *hidden], dim=1)

    def _layers(self, x_BCHW: Tensor) -> list[Tensor]:
        """The maps of every layer, and then the features."""
        maps, found = 2 * x_BCHW - 1, []
        for layer in self.layers:
            maps = layer(maps)
            found.append(maps)
        return [*found, self.hidden(maps.flatten(1))]

    def scores(self, features_BF: Tensor, classes_B: Tensor | None = None) -> Tensor:
        """Scores (B, outputs) of `features`.

        Raises:
            ValueError: a conditional net was not told the classes.
        """
        scores: Tensor = self.head(features_BF)
        if self.num_classes:
            if classes_B is None:
                raise ValueError("a conditional discriminator needs classes")
            scores = scores + (self.classes(classes_B) * features_BF).sum(1, keepdim=True)
        return scores

    def forward(self, x_BCHW: Tensor, classes_B: Tensor | None = None) -> Tensor:
        """Scores (B, outputs)."""
        return self.scores(self.features(x_BCHW), classes_B)


class Gan(Net):
    """Both nets. Called with z it gives pictures; its embedding is of the discriminator."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.generator = Generator(config)
        self.discriminator = Discriminator(config)

    @property
    def dimension(self) -> int:
        """D of the discriminator."""
        return self.discriminator.dimension

    def encode(self, inputs: Tensor) -> Tensor:
        """Features (B, D) of pictures (B, C, H, W) in 0..1."""
        return self.discriminator.encode(inputs)

    def forward(self, z_BZ: Tensor, classes_B: Tensor | None = None) -> Tensor:
        """Pictures."""
        pictures: Tensor = self.generator(z_BZ, classes_B)
        return pictures


class GanEncoder(Net):
    """The discriminator of `Gan` alone, under the same names."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.discriminator = Discriminator(config)

    @property
    def dimension(self) -> int:
        """D of the discriminator."""
        return self.discriminator.dimension

    def encode(self, inputs: Tensor) -> Tensor:
        """Features (B, D) of pictures (B, C, H, W) in 0..1."""
        return self.discriminator.encode(inputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """The embedding."""
        return self.encode(inputs)


def _as_it_is(module: nn.Module) -> nn.Module:
    return module


def _none(_maps: int, _side: int) -> list[nn.Module]:
    return []


def _batch(maps: int, _side: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(maps)]


def _layer(maps: int, side: int) -> list[nn.Module]:
    # Over all numbers of one picture: nothing passes between the rows of a batch.
    return [nn.LayerNorm((maps, side, side), elementwise_affine=False)]


_NORMS: Mapping[str, Callable[[int, int], list[nn.Module]]] = MappingProxyType(
    {"batch": _batch, "layer": _layer, "spectral": _none, "none": _none}
)


ENTRIES: Entries = MappingProxyType(
    {"gan": NetEntry(GanConfig, Gan), "gan_encoder": NetEntry(GanConfig, GanEncoder)}
)
