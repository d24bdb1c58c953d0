"""A classifier of texts that looks at which words there are, not at their order.

Legend: B batch, L length, E embedding of a word, K classes, D dimension.
"""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Annotated

import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from msgspec import Meta
from torch import Tensor, nn

from workers.nets.parts import Entries, Inputs, Net, NetConfig, NetEntry
from workers.nets.validation import Problem

Width = Annotated[int, Meta(ge=1, le=4096)]
Share = Annotated[float, Meta(ge=0, lt=1)]


class PooledWordsConfig(NetConfig, frozen=True):
    """Embeddings of words, their mean, then one hidden layer of ``dimension``; ``padding`` is no word.

    ``max_length`` is where a text is cut when the net is given texts.
    """

    vocabulary_size: Annotated[int, Meta(ge=2, le=1_000_000)]
    max_length: Annotated[int, Meta(ge=1, le=100_000)] = 256
    padding: Annotated[int, Meta(ge=0)] = 0
    embedding_dim: Width = 64
    dimension: Width = 64
    num_classes: Annotated[int, Meta(ge=2, le=10_000)] = 2
    dropout: Share = 0.0

    def problems(self) -> Iterator[Problem]:
        """Padding is one of the words."""
        if self.padding >= self.vocabulary_size:
            yield Problem(("padding",), f"is a number below vocabulary_size, {self.vocabulary_size}")


class PooledWords(Net):
    """Logits (B, K) of token numbers ``ids`` (B, L) (Joulin et al., 2017, with a hidden layer)."""

    def __init__(self, config: PooledWordsConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocabulary_size, config.embedding_dim, padding_idx=config.padding)
        self.hidden = nn.Linear(config.embedding_dim, config.dimension)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.dimension, config.num_classes)
        self._dimension = config.dimension
        self._padding = config.padding

    @property
    def dimension(self) -> int:
        """Length of the hidden layer."""
        return self._dimension

    def encode(self, inputs: Inputs) -> Tensor:
        """The hidden layer (B, D) of a dict with ``ids``."""
        ids_BL: Tensor = inputs["ids"]
        num_words_B = (ids_BL != self._padding).sum(1).clamp(min=1)
        # The embedding of padding is zero and stays so.
        mean_BE = self.words(ids_BL).sum(1) / num_words_B[:, None]
        return F.relu(self.hidden(mean_BE))

    def forward(self, ids: Tensor, ids_lengths: Tensor | None = None) -> Tensor:
        """Logits (B, K); the lengths are not needed."""
        del ids_lengths
        logits: Tensor = self.head(self.dropout(self.encode({"ids": ids})))
        return logits


ENTRIES: Entries = MappingProxyType({"pooled_words": NetEntry(PooledWordsConfig, PooledWords)})
