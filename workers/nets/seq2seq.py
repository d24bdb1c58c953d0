"""One sequence into another: a bidirectional encoder and a decoder with attention (Luong et al., 2015).

Legend: B batch, S source length, T target length, E width of an encoder state, H decoder units, V vocabulary.
"""

import math
from collections.abc import Iterator
from types import MappingProxyType
from typing import Annotated, NamedTuple, cast

import torch
from msgspec import Meta
from torch import Tensor, nn

from workers.nets.parts import Entries, NetEntry
from workers.nets.recurrent import Hidden, RecurrentConfig, RecurrentStack, Width, inside, locked_dropout
from workers.nets.sequences import SequenceConfig, SequenceEncoder
from workers.nets.validation import Problem


class Seq2SeqConfig(SequenceConfig, frozen=True, kw_only=True):
    """``target_size`` is the vocabulary of what comes out, with padding 0; the rest describes the encoder.

    The decoder has the same cell, layers and dropouts, and ``decoder_hidden`` units.
    """

    target_size: Annotated[int, Meta(ge=4, le=1_000_000)]
    target_dim: Width = 64
    decoder_hidden: Width = 128

    def problems(self) -> Iterator[Problem]:
        """What contradicts itself."""
        yield from super().problems()
        if not self.vocabulary_size:
            yield Problem(("vocabulary_size",), "is required: the source is tokens")


class Memory(NamedTuple):
    """A source that was read: states (B, S, E), their keys (B, S, H), which steps count, where to begin."""

    states_BSE: Tensor
    keys_BSH: Tensor
    inside_BS: Tensor
    start: Hidden


class Seq2Seq(SequenceEncoder):
    """The decoder reads what was written so far; each of its states looks at all states of the encoder."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__(config)
        units = config.decoder_hidden
        decoder = RecurrentConfig(
            cell=config.cell,
            hidden=units,
            num_layers=config.num_layers,
            hidden_dropout=config.hidden_dropout,
            weight_drop=config.weight_drop,
        )
        self.target_embed = nn.Embedding(config.target_size, config.target_dim, padding_idx=0)
        self.decoder = RecurrentStack(config.target_dim, decoder)
        self.bridge = nn.Linear(self.dimension, units * config.num_layers)
        self.keys = nn.Linear(self.width, units, bias=False)
        self.combine = nn.Linear(self.width + units, units)
        self.head = nn.Linear(units, config.target_size)
        self._num_layers, self._is_lstm = config.num_layers, config.cell == "lstm"
        self._input_dropout = config.input_dropout

    def remember(self, ids: Tensor, ids_lengths: Tensor | None = None) -> Memory:
        """Read the source (B, S)."""
        states_BSE, _ = self.read(ids, None, ids_lengths)
        if ids_lengths is None:
            ids_lengths = torch.full((len(ids),), ids.shape[1], device=ids.device)
        begins = torch.tanh(self.bridge(self.pooled(states_BSE, ids_lengths)))
        start = tuple(
            (part.unsqueeze(0).contiguous(), torch.zeros_like(part).unsqueeze(0))[: 2 if self._is_lstm else 1]
            for part in begins.chunk(self._num_layers, 1)
        )
        keys_BSH = self.keys(self.dropped(states_BSE))
        return Memory(states_BSE, keys_BSH, inside(ids_lengths, ids.shape[1]), start)

    def write(self, memory: Memory, target_BT: Tensor, hidden: Hidden | None = None) -> tuple[Tensor, Hidden]:
        """Logits (B, T, V) of what follows each token of ``target_BT``, and the state to go on from."""
        x_BTD = locked_dropout(self.target_embed(target_BT), self._input_dropout, training=self.training)
        out_BTH, after = self.decoder(x_BTD, memory.start if hidden is None else hidden)
        scores_BTS = out_BTH @ memory.keys_BSH.transpose(1, 2) / math.sqrt(out_BTH.shape[2])
        scores_BTS = scores_BTS.masked_fill(~memory.inside_BS.unsqueeze(1), -torch.inf)
        context_BTE = torch.softmax(scores_BTS, -1) @ memory.states_BSE
        joint_BTH = torch.tanh(self.combine(torch.cat([out_BTH, context_BTE], 2)))
        return self.head(self.dropped(joint_BTH)), cast("Hidden", after)

    def forward(self, ids: Tensor, target: Tensor, ids_lengths: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of what follows each token of ``target`` (B, T)."""
        return self.write(self.remember(ids, ids_lengths), target)[0]


ENTRIES: Entries = MappingProxyType(
    {
        "rnn_seq2seq": NetEntry(Seq2SeqConfig, Seq2Seq),
        "rnn_seq2seq_encoder": NetEntry(Seq2SeqConfig, SequenceEncoder),
    }
)
