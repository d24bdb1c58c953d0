"""Nets that read a sequence of tokens or of rows of numbers: language model, classifier, tagger.

Legend: B batch, L length, D width of a step, H width of a state, K classes, V vocabulary.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from msgspec import Meta
from torch import Tensor, nn

from workers.nets.parts import Entries, Inputs, Net, NetEntry
from workers.nets.recurrent import (
    POOLED_WIDTHS,
    POOLINGS,
    Hidden,
    Pooling,
    RecurrentConfig,
    RecurrentStack,
    Share,
    Width,
    embedding_dropout,
    inside,
    locked_dropout,
)
from workers.nets.validation import Problem

Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Classes = Annotated[int, Meta(ge=2, le=100_000)]


class SequenceConfig(RecurrentConfig, frozen=True):
    """What is read and how; exactly one of ``vocabulary_size`` and ``row_size`` is given.

    Attributes:
        vocabulary_size, embedding_dim: of tokens; token 0 is padding.
        embedding_std: of embeddings as they begin: 0.1 for words, most of which are seen a few times and have
            to become what they mean and not what they were drawn as; 1.0 is faster where tokens are few.
        row_size: numbers in a row, where the inputs are pictures read row by row.
        embedding_dropout: share of the vocabulary left out of a batch.
        input_dropout, output_dropout: before the first and after the last layer, one mask for all steps.
        pooling: how states become one vector: the mean, the greatest, the last, or all three.
    """

    vocabulary_size: Count = 0
    row_size: Count = 0
    embedding_dim: Width = 64
    embedding_std: Annotated[float, Meta(gt=0, le=10)] = 0.1
    embedding_dropout: Share = 0.0
    input_dropout: Share = 0.0
    output_dropout: Share = 0.0
    pooling: Pooling = "concat"

    def problems(self) -> Iterator[Problem]:
        """What contradicts itself."""
        yield from super().problems()
        if bool(self.vocabulary_size) == bool(self.row_size):
            yield Problem(("vocabulary_size",), "either this or row_size is needed, and not both")
        if self.embedding_dropout and not self.vocabulary_size:
            yield Problem(("embedding_dropout",), "needs a vocabulary")


class SequenceEncoder(Net):
    """Embedding, recurrent layers and pooling; the base of the nets here, and what they are exported as."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self.embed = (
            nn.Embedding(config.vocabulary_size, config.embedding_dim, padding_idx=0)
            if config.vocabulary_size
            else None
        )
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=config.embedding_std)
            nn.init.zeros_(self.embed.weight[0])
        self.stack = RecurrentStack(config.row_size or config.embedding_dim, config)
        self._rates = (config.embedding_dropout, config.input_dropout, config.output_dropout)
        self._pool, self._directions = POOLINGS[config.pooling], config.num_directions
        self.width = config.hidden * config.num_directions
        self._dimension = POOLED_WIDTHS[config.pooling] * self.width

    @property
    def dimension(self) -> int:
        """Length of the pooled states."""
        return self._dimension

    def encode(self, inputs: Inputs) -> Tensor:
        """Pooled states (B, D) of ``{"ids": (B, L), "ids_lengths": (B,)}``, or of pictures (B, C, H, W)."""
        ids, lengths_B = (
            (inputs["ids"], inputs.get("ids_lengths")) if isinstance(inputs, Mapping) else (inputs, None)
        )
        states_BLH, _ = self.read(ids, None, lengths_B)
        return self.pooled(states_BLH, lengths_B)

    def read(
        self, ids: Tensor, hidden: Hidden | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, Hidden]:
        """States (B, L, H) before the output dropout, and the hidden states to go on from."""
        on_words, on_inputs, _ = self._rates
        if self.embed is None:
            # A picture is its rows from top to bottom, channels side by side.
            x_BLD = ids.movedim(1, 2).flatten(2)
        else:
            x_BLD = self.embed(ids)
            if on_words and self.training:
                x_BLD = embedding_dropout(x_BLD, ids, self.embed.num_embeddings, on_words)
        x_BLD = locked_dropout(x_BLD, on_inputs, training=self.training)
        states: tuple[Tensor, Hidden] = self.stack(x_BLD, hidden, lengths_B)
        return states

    def dropped(self, states_BLH: Tensor) -> Tensor:
        """States as the head gets them."""
        return locked_dropout(states_BLH, self._rates[2], training=self.training)

    def pooled(self, states_BLH: Tensor, lengths_B: Tensor | None) -> Tensor:
        """One vector a row (B, D)."""
        size, length = states_BLH.shape[:2]
        if lengths_B is None:
            lengths_B = torch.full((size,), length, device=states_BLH.device)
        return self._pool(states_BLH, inside(lengths_B, length), self._directions)


class LanguageModelConfig(SequenceConfig, frozen=True):
    """Predicts the next token; ``tied`` uses the embedding as the head (Press and Wolf, 2017)."""

    tied: bool = False

    def problems(self) -> Iterator[Problem]:
        """What contradicts itself."""
        yield from super().problems()
        if not self.vocabulary_size:
            yield Problem(("vocabulary_size",), "is required: a language model predicts tokens")
        if self.bidirectional:
            yield Problem(("bidirectional",), "a language model may not see what it has to predict")
        if self.tied and self.hidden != self.embedding_dim:
            yield Problem(("tied",), f"needs hidden ({self.hidden}) equal to embedding_dim")


class LanguageOutput(NamedTuple):
    """Logits (B, L, V), the hidden state to go on from, and the states before and after their dropout."""

    logits_BLV: Tensor
    hidden: Hidden
    states_BLH: Tensor
    dropped_BLH: Tensor


class LanguageModel(SequenceEncoder):
    """Logits of the next token at each step; the hidden state goes in and comes out."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(config.hidden, config.vocabulary_size, bias=not config.tied)
        self.head_bias = nn.Parameter(torch.zeros(config.vocabulary_size)) if config.tied else None
        if config.tied:
            # The embedding's own tensor: a weight under two names would be stored and counted twice.
            del self.head

    def forward(
        self, ids: Tensor, hidden: Hidden | None = None, ids_lengths: Tensor | None = None
    ) -> LanguageOutput:
        """Read (B, L) tokens on from ``hidden``; None is the beginning of a text."""
        del ids_lengths  # what follows a row's end is not looked at
        states_BLH, after = self.read(ids, hidden)
        dropped_BLH = self.dropped(states_BLH)
        if self.head_bias is None or self.embed is None:
            logits_BLV = self.head(dropped_BLH)
        else:
            logits_BLV = F.linear(dropped_BLH, self.embed.weight, self.head_bias)
        return LanguageOutput(logits_BLV, after, states_BLH, dropped_BLH)


class SequenceClassifierConfig(SequenceConfig, frozen=True):
    """One of ``num_classes`` for a whole sequence."""

    num_classes: Classes = 2


class SequenceClassifier(SequenceEncoder):
    """Logits (B, K) from the pooled states."""

    def __init__(self, config: SequenceClassifierConfig) -> None:
        super().__init__(config)
        self.drop = nn.Dropout(config.output_dropout)
        self.head = nn.Linear(self.dimension, config.num_classes)

    def forward(self, ids: Tensor, ids_lengths: Tensor | None = None) -> Tensor:
        """Logits (B, K) of tokens (B, L) or of pictures (B, C, H, W)."""
        states_BLH, _ = self.read(ids, None, ids_lengths)
        logits_BK: Tensor = self.head(self.drop(self.pooled(states_BLH, ids_lengths)))
        return logits_BK


class TaggerConfig(SequenceConfig, frozen=True):
    """One of ``num_tags`` for each token."""

    num_tags: Classes = 2


class Tagger(SequenceEncoder):
    """Logits (B, L, K), one row a token."""

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(self.width, config.num_tags)

    def forward(self, ids: Tensor, ids_lengths: Tensor | None = None) -> Tensor:
        """Logits (B, L, K); those after a row's end mean nothing."""
        states_BLH, _ = self.read(ids, None, ids_lengths)
        logits_BLK: Tensor = self.head(self.dropped(states_BLH))
        return logits_BLK


def _encoder(config: Any) -> SequenceEncoder:  # noqa: ANN401  one of the configs above
    return SequenceEncoder(config)


ENTRIES: Entries = MappingProxyType(
    {
        "rnn_language_model": NetEntry(LanguageModelConfig, LanguageModel),
        "rnn_classifier": NetEntry(SequenceClassifierConfig, SequenceClassifier),
        "rnn_tagger": NetEntry(TaggerConfig, Tagger),
        "rnn_language_model_encoder": NetEntry(LanguageModelConfig, _encoder),
        "rnn_classifier_encoder": NetEntry(SequenceClassifierConfig, _encoder),
        "rnn_tagger_encoder": NetEntry(TaggerConfig, _encoder),
    }
)
