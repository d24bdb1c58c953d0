"""Small classifiers whose last hidden layer is their embedding.

Legend: B batch, C channels, H height, W width, K classes, D dimension.
"""

from collections.abc import Iterator
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated

import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from msgspec import Meta
from torch import Tensor, nn

from workers.nets.parts import Entries, Net, NetConfig, NetEntry
from workers.nets.validation import Problem

Width = Annotated[int, Meta(ge=1, le=4096)]
Side = Annotated[int, Meta(ge=8, le=256)]
Share = Annotated[float, Meta(ge=0, lt=1)]


class ConvClassifierConfig(NetConfig, frozen=True):
    """Three convolutions, each halving the side, then one hidden layer of ``dimension``."""

    channels: Annotated[int, Meta(ge=1, le=4)] = 1
    side: Side = 28
    num_classes: Annotated[int, Meta(ge=2, le=10_000)] = 10
    width: Width = 16
    dimension: Width = 64
    dropout: Share = 0.0


class ConvClassifier(Net):
    """Logits (B, K) of images (B, C, H, W) in 0..1."""

    def __init__(self, config: ConvClassifierConfig) -> None:
        super().__init__()
        width = config.width
        self.features = nn.Sequential(
            nn.Conv2d(config.channels, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        side = -(-config.side // 8)
        self.hidden = nn.Linear(4 * width * side * side, config.dimension)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.dimension, config.num_classes)
        self._dimension = config.dimension

    @property
    def dimension(self) -> int:
        """Length of the hidden layer."""
        return self._dimension

    def encode(self, inputs: Tensor) -> Tensor:
        """The hidden layer (B, D)."""
        return F.relu(self.hidden(self.features(inputs)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, K)."""
        logits: Tensor = self.head(self.dropout(self.encode(inputs)))
        return logits


class MlpClassifierConfig(NetConfig, frozen=True):
    """Fully connected layers of ``hidden`` units; inputs are flattened."""

    num_inputs: Annotated[int, Meta(ge=1, le=1_000_000)] = 784
    hidden: tuple[Width, ...] = (128,)
    num_classes: Annotated[int, Meta(ge=2, le=10_000)] = 10
    dropout: Share = 0.0

    def problems(self) -> Iterator[Problem]:
        """The last hidden layer is the embedding."""
        if not self.hidden:
            yield Problem(("hidden",), "needs at least one layer")


class MlpClassifier(Net):
    """Logits (B, K) of anything that flattens to (B, inputs)."""

    def __init__(self, config: MlpClassifierConfig) -> None:
        super().__init__()
        widths = (config.num_inputs, *config.hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(config.dropout)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], config.num_classes)
        self._dimension = widths[-1]

    @property
    def dimension(self) -> int:
        """Length of the last hidden layer."""
        return self._dimension

    def encode(self, inputs: Tensor) -> Tensor:
        """The last hidden layer (B, D)."""
        embedding: Tensor = self.features(inputs)
        return embedding

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, K)."""
        logits: Tensor = self.head(self.features(inputs))
        return logits


ENTRIES: Entries = MappingProxyType(
    {
        "conv_classifier": NetEntry(ConvClassifierConfig, ConvClassifier),
        "mlp_classifier": NetEntry(MlpClassifierConfig, MlpClassifier),
    }
)
