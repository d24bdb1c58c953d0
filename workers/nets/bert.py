"""BERT's encoder (Devlin et al., 2018), as far as sentence embeddings need it.

Shapes: B sequences, L tokens, D model width, H heads.
"""

from collections.abc import Mapping

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional


class BertConfig(msgspec.Struct, frozen=True):
    """The fields of a ``config.json`` of such a model that matter here; the others are ignored."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float


class BertLayer(nn.Module):
    """Self-attention and a feed-forward net, each followed by a residual sum and a norm."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.num_heads = config.num_attention_heads
        # Query, key and value in one matrix: one product instead of three, which short batches feel.
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps)
        self.up = nn.Linear(width, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, width)
        self.out_norm = nn.LayerNorm(width, eps)

    def forward(self, x_BLD: Tensor, mask_B11L: Tensor | None) -> Tensor:
        """Return (B, L, D)."""
        batch, length, width = x_BLD.shape
        heads = self.qkv(x_BLD).view(batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask_B11L)
        attended_BLD = attended.transpose(1, 2).reshape(batch, length, width)
        x_BLD = self.attention_norm(x_BLD + self.attention_out(attended_BLD))
        fed: Tensor = self.down(functional.gelu(self.up(x_BLD)))
        normed: Tensor = self.out_norm(x_BLD + fed)
        return normed


class BertEncoder(nn.Module):
    """Token ids to one vector a token. The tables of embeddings are left for `bert_from_weights` to fill."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        # Plain tables: nn.Embedding would draw random numbers for them, which takes longer than loading.
        self.words = nn.Parameter(torch.empty(config.vocab_size, width))
        self.positions = nn.Parameter(torch.empty(config.max_position_embeddings, width))
        self.types = nn.Parameter(torch.empty(config.type_vocab_size, width))
        self.norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.layers = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, ids_BL: Tensor, mask_BL: Tensor | None) -> Tensor:
        """Return (B, L, D).

        Args:
            ids_BL: token ids, int64, padded at the end with any id.
            mask_BL: True where there is a token; None when nothing is padded.
        """
        x_BLD = self.embed(ids_BL)
        mask_B11L = None if mask_BL is None else mask_BL[:, None, None, :]
        for layer in self.layers:
            x_BLD = layer(x_BLD, mask_B11L)
        return x_BLD

    def embed(self, ids_BL: Tensor) -> Tensor:
        """What the layers begin with: words and places, (B, L, D)."""
        words_BLD = functional.embedding(ids_BL, self.words)
        normed: Tensor = self.norm(words_BLD + self.positions[: ids_BL.shape[1]] + self.types[0])
        return normed


def bert_from_weights(config: BertConfig, weights: Mapping[str, Tensor]) -> BertEncoder:
    """Build the encoder around weights that carry the names of transformers' ``BertModel``.

    The tensors are used as they are, not copied, except where three become one.

    Raises:
        KeyError: a weight is missing.
        RuntimeError: a weight has another shape than the configuration says.
    """
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        encoder = BertEncoder(config)
    encoder.load_state_dict(_renamed(config, weights), assign=True)
    return encoder.eval().requires_grad_(requires_grad=False)


def _renamed(config: BertConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ours = {
        "words": weights["embeddings.word_embeddings.weight"],
        "positions": weights["embeddings.position_embeddings.weight"],
        "types": weights["embeddings.token_type_embeddings.weight"],
    }
    for part in ("weight", "bias"):
        ours[f"norm.{part}"] = weights[f"embeddings.LayerNorm.{part}"]
        for number in range(config.num_hidden_layers):
            theirs, layer = f"encoder.layer.{number}", f"layers.{number}"
            ours[f"{layer}.qkv.{part}"] = torch.cat(
                [weights[f"{theirs}.attention.self.{role}.{part}"] for role in ("query", "key", "value")]
            )
            ours |= {
                f"{layer}.attention_out.{part}": weights[f"{theirs}.attention.output.dense.{part}"],
                f"{layer}.attention_norm.{part}": weights[f"{theirs}.attention.output.LayerNorm.{part}"],
                f"{layer}.up.{part}": weights[f"{theirs}.intermediate.dense.{part}"],
                f"{layer}.down.{part}": weights[f"{theirs}.output.dense.{part}"],
                f"{layer}.out_norm.{part}": weights[f"{theirs}.output.LayerNorm.{part}"],
            }
    return ours
