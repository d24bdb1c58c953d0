"""Weak and strong changes of what a net takes, by the kind of data."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Generator, Tensor

from workers.train.configs.semi_supervised import SemiSupervisedOptions
from workers.train.data.augment import (
    Transform,
    noise,
    strong_digits,
    strong_photos,
    weak_digits,
    weak_photos,
    word_dropout,
)


class Views(NamedTuple):
    """Two changes ``(inputs, generator) -> inputs`` that keep a row's class; the strong one is harder."""

    weak: Transform
    strong: Transform


def views_of(options: SemiSupervisedOptions) -> Views:
    """The changes that the options name."""
    return _VIEWS[options.augmentation](options)


def _words(options: SemiSupervisedOptions) -> Views:
    weak, strong = options.word_dropout
    return Views(_dropping(weak, options.unknown_word), _dropping(strong, options.unknown_word))


def _dropping(rate: float, unknown: int) -> Transform:
    def change(inputs: Mapping[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        ids_BL = word_dropout(inputs["ids"], generator, rate=rate, unknown=unknown)
        return {**inputs, "ids": ids_BL}

    return change


def _features(options: SemiSupervisedOptions) -> Views:
    weak, strong = options.feature_noise
    return Views(_shaking(weak), _shaking(strong))


def _shaking(level: float) -> Transform:
    def change(x_BF: Tensor, generator: Generator) -> Tensor:
        return noise(x_BF, generator, level=level)

    return change


def _same(inputs: Any, generator: Generator) -> Any:  # noqa: ANN401  any inputs
    del generator
    return inputs


_VIEWS: Mapping[str, Callable[[SemiSupervisedOptions], Views]] = MappingProxyType(
    {
        "digits": lambda _: Views(weak_digits, strong_digits),
        "photos": lambda _: Views(weak_photos, strong_photos),
        "words": _words,
        "features": _features,
        "none": lambda _: Views(_same, _same),
    }
)
