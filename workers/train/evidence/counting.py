"""What counting alone reaches: n-grams for language models, the most frequent tag, letter by letter.

Legend: N tokens.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

Whole = np.ndarray[Any, np.dtype[np.int64]]
Real = np.ndarray[Any, np.dtype[np.float64]]


def ngram_bits(train_N: Tensor, test_N: Tensor, order: int, num_tokens: int) -> float:
    """Bits a token of an n-gram model with Witten and Bell's (1991) way of falling back on shorter ones.

    The test's first ``order - 1`` tokens are told by as many tokens as there are before them.
    """
    train, test = train_N.numpy().astype(np.int64), test_N.numpy().astype(np.int64)
    if num_tokens ** (order + 1) > 2**62:
        raise ValueError(f"{num_tokens} tokens of order {order} have no number of 64 bits")
    shares: Real = np.full(len(test), 1.0 / num_tokens)
    for length in range(order):
        shares[length:] = _mixed(
            (_keys(train, length, num_tokens), _keys(train, length + 1, num_tokens)),
            (_keys(test, length, num_tokens), _keys(test, length + 1, num_tokens)),
            shares[length:],
            num_tokens,
        )
    return float(-np.log2(shares).mean())


def _keys(tokens: Whole, length: int, base: int) -> Whole:
    """A number for each run of ``length`` tokens; contexts leave out the run that nothing follows."""
    keys: Whole = np.zeros(len(tokens) - length + 1, np.int64)
    for at in range(length):
        keys = keys * base + tokens[at : len(tokens) - length + 1 + at]
    return keys


def _mixed(train: tuple[Whole, Whole], test: tuple[Whole, Whole], shorter: Real, base: int) -> Real:
    runs, counts = np.unique(train[1], return_counts=True)
    contexts, kinds = np.unique(runs // base, return_counts=True)
    context_counts = np.bincount(np.searchsorted(contexts, runs // base), weights=counts)
    seen = _looked_up(runs, counts, test[1])
    total = _looked_up(contexts, context_counts, test[0][: len(test[1])])
    different = _looked_up(contexts, kinds, test[0][: len(test[1])])
    with np.errstate(invalid="ignore"):
        mixed = (seen + different * shorter) / (total + different)
    return np.where(total > 0, mixed, shorter)


def _looked_up(known: Whole, values: np.ndarray[Any, Any], wanted: Whole) -> Real:
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[places] == wanted, values[places], 0).astype(np.float64)


def most_frequent(
    train: Iterable[tuple[Sequence[Hashable], Sequence[int]]],
) -> tuple[dict[Hashable, int], int]:
    """The label that each thing has most often, and the one for things never seen."""
    counts: defaultdict[Hashable, Counter[int]] = defaultdict(Counter)
    for things, labels in train:
        for thing, label in zip(things, labels, strict=True):
            counts[thing][label] += 1
    whole: Counter[int] = Counter()
    for each in counts.values():
        whole.update(each)
    return {thing: each.most_common(1)[0][0] for thing, each in counts.items()}, whole.most_common(1)[0][0]


def share_right(
    table: dict[Hashable, int], other: int, test: Iterable[tuple[Sequence[Hashable], Sequence[int]]]
) -> float:
    """Accuracy of that table."""
    right = total = 0
    for things, labels in test:
        right += sum(table.get(thing, other) == label for thing, label in zip(things, labels, strict=True))
        total += len(labels)
    return right / max(1, total)


def letter_by_letter(train: Iterable[tuple[str, Sequence[str]]]) -> dict[str, str]:
    """The symbol that stands most often at a letter's place, in words with a symbol for each letter."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for word, symbols in train:
        if len(word) == len(symbols):
            for letter, symbol in zip(word, symbols, strict=True):
                counts[letter][symbol] += 1
    return {letter: each.most_common(1)[0][0] for letter, each in counts.items()}


def unigram_bits(train_N: Tensor, test_N: Tensor, num_tokens: int) -> float:
    """Bits a token of how frequent tokens are, each counted once more than it was seen."""
    counts = train_N.bincount(minlength=num_tokens).double() + 1
    nats = -(counts / counts.sum()).log()[test_N].mean()
    return float(nats) / math.log(2)
