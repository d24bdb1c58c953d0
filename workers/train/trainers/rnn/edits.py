"""How many insertions, deletions and substitutions lie between two sequences.

Legend: B batch, L length of a guess, M length of a target.
"""

import torch
from torch import Tensor


def edit_distance(
    guesses_BL: Tensor, guess_lengths_B: Tensor, targets_BM: Tensor, target_lengths_B: Tensor
) -> Tensor:
    """Levenshtein's distance of each row (B,) int64, all rows at a time."""
    size, longest = targets_BM.shape
    places = torch.arange(longest + 1, device=targets_BM.device)
    costs = places.expand(size, -1)
    for at in range(guesses_BL.shape[1]):
        differs = guesses_BL[:, at : at + 1] != targets_BM
        best = torch.minimum(costs[:, :-1] + differs, costs[:, 1:] + 1)
        begun = torch.cat([costs[:, :1] + 1, best], 1)
        # Insertions: the least of what any place further left costs and the way from there.
        ended = (begun - places).cummin(1).values + places
        costs = torch.where((at < guess_lengths_B)[:, None], ended, costs)
    return costs.gather(1, target_lengths_B[:, None]).squeeze(1)
