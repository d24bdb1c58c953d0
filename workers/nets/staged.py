"""Encoders in stages, the lowest first, so that some can be frozen, or run once for all of training.

Legend: B batch, C channels, H height, W width, L tokens, D dimension of an embedding, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from workers.nets.parts import Inputs, Net


class Hidden(NamedTuple):
    """What some stages made of a batch: (B, C, H, W) or (B, L, D), and with tokens the lengths (B,)."""

    values: Tensor
    lengths: Tensor | None = None


class StagedNet(Net, ABC):
    """A net whose embedding is made by one stage after the other."""

    #: Names of the stages, the lowest first.
    stage_names: Sequence[str]
    takes: Literal["pictures", "tokens"]

    @abstractmethod
    def lower(self, inputs: Inputs, num_stages: int) -> Hidden:
        """Inputs through the lowest ``num_stages`` (at least one)."""

    @abstractmethod
    def upper(self, hidden: Hidden, num_stages: int) -> Tensor:
        """What `lower` gave for ``num_stages``, through the others to the embedding (B, D)."""

    @abstractmethod
    def stage_parameters(self, stage: int) -> Sequence[nn.Parameter]:
        """The parameters of one stage."""

    @property
    def num_stages(self) -> int:
        """How many there are."""
        return len(self.stage_names)

    def encode(self, inputs: Inputs) -> Tensor:
        """The embedding (B, D)."""
        return self.upper(self.lower(inputs, 1), 1)


class Headed(nn.Module):
    """An encoder with a linear classifier on its standardised embedding: logits (B, K).

    The standardisation is a batch norm without parameters of its own (He et al., 2022, A.1): rates that suit
    one encoder then suit another, whatever the scale of its features.
    """

    def __init__(self, backbone: StagedNet, num_classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        device = next(backbone.parameters()).device
        self.backbone = backbone
        self.norm = nn.BatchNorm1d(backbone.dimension, affine=False, device=device)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.dimension, num_classes, device=device)
        self.num_frozen = 0

    def freeze(self, num_stages: int) -> None:
        """Let the lowest ``num_stages`` learn nothing, and all others learn."""
        self.num_frozen = num_stages
        for stage in range(self.backbone.num_stages):
            for parameter in self.backbone.stage_parameters(stage):
                parameter.requires_grad_(stage >= num_stages)

    @property
    def is_probe(self) -> bool:
        """Whether nothing but the classifier learns."""
        return self.num_frozen == self.backbone.num_stages

    @torch.no_grad()
    def frozen(self, inputs: Inputs) -> Hidden:
        """What the frozen stages make of inputs: it can be computed once. All of them: the embedding."""
        if self.is_probe:
            return Hidden(self.backbone.encode(inputs))
        return self.backbone.lower(inputs, self.num_frozen)

    def encode(self, inputs: Inputs | Hidden) -> Tensor:
        """The embedding (B, D) of inputs, or of what `frozen` made of them."""
        if isinstance(inputs, Hidden):
            hidden = inputs
        elif self.num_frozen == 0:
            return self.backbone.encode(inputs)
        else:
            hidden = self.frozen(inputs)
        return hidden.values if self.is_probe else self.backbone.upper(hidden, self.num_frozen)

    def forward(self, inputs: Inputs | Hidden) -> Tensor:
        """Logits (B, K)."""
        logits: Tensor = self.head(self.dropout(self.norm(self.encode(inputs))))
        return logits
