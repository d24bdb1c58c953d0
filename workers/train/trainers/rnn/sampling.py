"""Drawing a token.

Legend: B batch, V vocabulary.
"""

import torch
from torch import Tensor


def nucleus(logits_BV: Tensor, top_p: float) -> Tensor:
    """Logits with all but the fewest most probable tokens that have ``top_p`` in all at minus infinity.

    The most probable token always stays (Holtzman et al., 2020).
    """
    if top_p >= 1:
        return logits_BV
    ranked_BV, order_BV = logits_BV.sort(descending=True, dim=-1, stable=True)
    shares_BV = torch.softmax(ranked_BV, -1)
    before_BV = shares_BV.cumsum(-1) - shares_BV
    cut_BV = before_BV >= top_p
    cut_BV[:, 0] = False
    return logits_BV.masked_fill(torch.zeros_like(cut_BV).scatter(-1, order_BV, cut_BV), -torch.inf)


def draw(logits_BV: Tensor, *, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """One token a row (B,) int64, drawn from torch's global generator."""
    shares_BV = torch.softmax(nucleus(logits_BV / temperature, top_p), -1)
    return torch.multinomial(shares_BV, 1).squeeze(1)
