"""Rows of a prepared data set as tensors, with what can be wrong about them said before anything is built.

Legend: N rows, C channels, H height, W width.
"""

import resource
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from workers.train.data.labels import UNLABELLED, hide_labels
from workers.train.run.order import Order, Split
from workers.train.run.problems import CannotTrain

Channels = Literal[1, 3]
#: Of the memory there is, what rows may fill: the net, its gradients and batches need some as well.
_SHARE_OF_MEMORY = 0.5
_COLOURS: Channels = 3
#: Height, width, channels.
_AXES = 3
_GIGABYTE = 1 << 30


class Pictures(NamedTuple):
    """What pictures are: channels, and the longer side in pixels, None where they differ in size."""

    channels: Channels
    side: int | None


def pictures_of(order: Order) -> Pictures:
    """What the data set's pictures are; those of several kinds count as coloured."""
    shape = order.facts.shape
    if shape is None or len(shape) != _AXES:
        return Pictures(_COLOURS, None)
    height, width, channels = shape
    return Pictures(1 if channels == 1 else _COLOURS, max(height, width))


def read_pictures(order: Order, split: Split, *, side: int, channels: Channels) -> Tensor:
    """All pictures of a split, (N, C, side, side) uint8.

    Raises:
        CannotTrain: they don't fit in memory.
    """
    count = order.num_rows(split)
    if not count:
        return torch.empty(0, channels, side, side, dtype=torch.uint8)
    ensure_fits(order, count * channels * side * side, f"{count:,} pictures of {side} pixels a side")
    return order.prepared.images(split, side=side, channels=channels)


def ensure_fits(order: Order, num_bytes: int, what: str) -> None:
    """See that so many bytes of rows fit in memory, of which each process holds its own.

    Raises:
        CannotTrain: they don't.
    """
    room = int(_SHARE_OF_MEMORY * _available_bytes()) // order.processes
    if num_bytes > room:
        raise CannotTrain(
            f"{what} take {num_bytes / _GIGABYTE:.1f} GB, and there are {room / _GIGABYTE:.1f} GB for them",
            "Train on fewer rows, or on smaller ones.",
        )


def _available_bytes() -> int:
    """Memory that this process may still take, by the machine and by its own limits."""
    found = [_GIGABYTE * 64]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = (line.split() for line in meminfo.read_text().splitlines())
        found += [int(line[1]) * 1024 for line in lines if line[0] == "MemAvailable:"]
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            found.append(soft)
    return min(found)


def has_labels(order: Order) -> bool:
    """Whether there are classes to tell apart."""
    return order.num_classes > 1


def ensure_classes(order: Order, labels_N: Tensor, learns: str) -> None:
    """See that there are two classes at least with labelled rows.

    Raises:
        CannotTrain: there are not.
    """
    seen = sorted(set(labels_N.tolist()) - {UNLABELLED})
    if not has_labels(order) or not seen:
        raise CannotTrain(
            f"{learns} needs rows with labels of at least two classes, and there are none",
            "Add labels to the data set.",
        )
    if len(seen) == 1:
        raise CannotTrain(
            f"{learns} has nothing to tell apart: all rows for training are of {_named(order, seen[0])}",
            "Add rows of another class to the data set.",
        )


def keep_labels(order: Order, labels_N: Tensor, keep: int | None) -> Tensor:
    """Hide all labels but ``keep`` a class, which are drawn by the training's seed; None keeps all.

    Raises:
        CannotTrain: a class has fewer.
    """
    if keep is None:
        return labels_N
    known = labels_N != UNLABELLED
    counts = labels_N[known].bincount(minlength=order.num_classes)
    for label, count in enumerate(counts.tolist()):
        if 0 < count < keep:
            raise CannotTrain(
                f"{keep} labels a class are asked for, and {_named(order, label)} has {count} for training",
                f"Say labels_per_class {count} or less.",
            )
    hidden_N = torch.full_like(labels_N, UNLABELLED)
    hidden_N[known] = hide_labels(labels_N[known], keep, order.spec.seed)
    return hidden_N


def drawn(order: Order, num_rows: int, most: int) -> Tensor:
    """Numbers of ``most`` of the rows in their order, drawn by the training's seed."""
    if num_rows <= most:
        return torch.arange(num_rows)
    generator = torch.Generator().manual_seed(order.spec.seed)
    return torch.randperm(num_rows, generator=generator)[:most].sort().values


def labelled_rows(labels_N: Tensor) -> Tensor:
    """Numbers of the rows that have a label."""
    return (labels_N != UNLABELLED).nonzero()[:, 0]


def _named(order: Order, label: int) -> str:
    return f"class {order.facts.classes[label]!r}"
