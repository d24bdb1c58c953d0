"""Labels of which most are not known."""

import torch
from torch import Tensor

#: The label of a row that nobody has labelled.
UNLABELLED = -1


def hide_labels(labels_N: Tensor, keep: int, seed: int = 0) -> Tensor:
    """All labels but ``keep`` of each class become `UNLABELLED`; ``seed`` says which are kept.

    Raises:
        ValueError: a class has fewer than ``keep`` rows.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.full_like(labels_N, UNLABELLED)
    for label in sorted(set(labels_N.tolist())):
        rows = (labels_N == label).nonzero()[:, 0]
        if len(rows) < keep:
            raise ValueError(f"{keep} labels of class {label} asked for, it has {len(rows)}")
        hidden[rows[torch.randperm(len(rows), generator=generator)[:keep]]] = label
    return hidden
