"""Labelled pictures and texts as an encoder takes them.

Legend: N rows, C channels, H height, W width.
"""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from workers.nets.contracts import ImageInput, TokensInput
from workers.train.data.loaders import Ragged


def labelled_pictures(x_NCHW: Tensor, y_N: Tensor, contract: ImageInput) -> tuple[Tensor, Tensor]:
    """Pictures resized once, still uint8 (trainers scale each batch by the contract), and their labels."""
    return contract.pixels(list(x_NCHW)), y_N


def labelled_texts(
    rows: Sequence[tuple[str, int]], contract: TokensInput, tokenizer: Tokenizer
) -> dict[str, Ragged | Tensor]:
    """Token numbers of texts, cut as the contract says, and their labels: columns ``ids`` and ``labels``."""
    encodings = tokenizer.encode_batch([text for text, _ in rows])
    ids = [encoding.ids[: contract.max_length] or [contract.padding] for encoding in encodings]
    return {"ids": Ragged.of(ids), "labels": torch.tensor([label for _, label in rows])}
