"""Sentence embeddings: the mean of BERT's vectors over the tokens (Reimers and Gurevych, 2019).

Legend: B batch, L tokens, D dimension.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from workers.nets.bert import BertConfig, BertEncoder
from workers.nets.parts import Entries, NetConfig, NetEntry
from workers.nets.staged import Hidden, StagedNet
from workers.nets.validation import Problem

Width = Annotated[int, Meta(ge=1, le=4096)]
Vocabulary = Annotated[int, Meta(ge=1, le=1_000_000)]
_INITIAL_STD = 0.02


class SentenceBertConfig(NetConfig, frozen=True):
    """As in a BERT's ``config.json``; the defaults are those of all-MiniLM-L6-v2."""

    vocab_size: Vocabulary = 30_522
    hidden_size: Width = 384
    num_hidden_layers: Annotated[int, Meta(ge=1, le=48)] = 6
    num_attention_heads: Annotated[int, Meta(ge=1, le=64)] = 12
    intermediate_size: Annotated[int, Meta(ge=1, le=16_384)] = 1536
    max_position_embeddings: Annotated[int, Meta(ge=1, le=8192)] = 512
    type_vocab_size: Annotated[int, Meta(ge=1, le=16)] = 2
    layer_norm_eps: Annotated[float, Meta(gt=0, lt=1)] = 1e-12

    def problems(self) -> Iterator[Problem]:
        """Heads share the width."""
        if self.hidden_size % self.num_attention_heads:
            yield Problem(("num_attention_heads",), f"does not divide hidden_size, {self.hidden_size}")


class SentenceBert(StagedNet):
    """Tokens, ``ids`` (B, L) and ``ids_lengths`` (B,), to (B, D). Stages are the tables, then the layers."""

    takes = "tokens"

    def __init__(self, config: SentenceBertConfig, encoder: BertEncoder | None = None) -> None:
        super().__init__()
        self.stage_names = ("embeddings", *(f"layer_{at}" for at in range(1, config.num_hidden_layers + 1)))
        self._dimension = config.hidden_size
        if encoder is None:
            fields = {name: getattr(config, name) for name in BertConfig.__struct_fields__}
            encoder = BertEncoder(BertConfig(**fields))
            for table in (encoder.words, encoder.positions, encoder.types):
                nn.init.normal_(table, std=_INITIAL_STD)
        self.encoder = encoder

    @property
    def dimension(self) -> int:
        """The model's width."""
        return self._dimension

    def lower(self, inputs: Mapping[str, Tensor], num_stages: int) -> Hidden:
        """Tokens through the tables and the lowest layers: (B, L, D)."""
        ids_BL, lengths = inputs["ids"], inputs["ids_lengths"]
        x_BLD = self.encoder.embed(ids_BL)
        return self._through(Hidden(x_BLD, lengths), slice(0, num_stages - 1))

    def upper(self, hidden: Hidden, num_stages: int) -> Tensor:
        """The other layers, and the mean over the tokens: (B, D)."""
        x_BLD, lengths = self._through(hidden, slice(num_stages - 1, None))
        mask_BL = _mask(x_BLD, lengths)
        if mask_BL is None or lengths is None:
            return x_BLD.mean(1)
        return (x_BLD * mask_BL[..., None]).sum(1) / lengths[:, None]

    def stage_parameters(self, stage: int) -> Sequence[nn.Parameter]:
        """The three tables and their norm, or one layer's weights."""
        encoder = self.encoder
        if stage == 0:
            return [encoder.words, encoder.positions, encoder.types, *encoder.norm.parameters()]
        return list(encoder.layers[stage - 1].parameters())

    def _through(self, hidden: Hidden, layers: slice) -> Hidden:
        x_BLD, lengths = hidden
        mask_BL = _mask(x_BLD, lengths)
        mask_B11L = None if mask_BL is None else mask_BL[:, None, None, :]
        for layer in self.encoder.layers[layers]:
            x_BLD = layer(x_BLD, mask_B11L)
        return Hidden(x_BLD, lengths)


def _mask(x_BLD: Tensor, lengths: Tensor | None) -> Tensor | None:
    """True where there is a token."""
    if lengths is None:
        return None
    return torch.arange(x_BLD.shape[1], device=x_BLD.device) < lengths[:, None]


ENTRIES: Entries = MappingProxyType({"sentence_bert": NetEntry(SentenceBertConfig, SentenceBert)})
