"""The sets that come with the trainers, as data sets by name."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count

from torch import Tensor

from workers.train.data import (
    IMAGE_SETS,
    TEXT_SETS,
    DataError,
    load_brown,
    load_images,
    load_phonemes,
    load_shakespeare,
    load_texts,
)
from workers.train.data.archives import ARCHIVES, data_folder
from workers.train.datasets.cleaning import clean_text
from workers.train.datasets.facts import (
    BadRow,
    BadSource,
    Content,
    Issue,
    Limits,
    Pair,
    Reading,
    Row,
    Split,
    Tagged,
)
from workers.train.datasets.pictures import from_pixels
from workers.train.datasets.plain import pieces_of

_DIGITS = "digits"


def installed_samples() -> list[str]:
    """The names of the sets that are there. Their files are looked for, not read."""
    folder = data_folder()
    there = [name for name, archive in ARCHIVES.items() if (folder / archive.file_name).exists()]
    if importlib.util.find_spec("sklearn") is not None:
        there.append(_DIGITS)
    return sorted(name for name in there if name in _READERS)


def open_sample(name: str, limits: Limits) -> Reading:
    """A set by name, with its own rows for tests.

    Raises:
        BadSource: there is none of that name, or it is not installed here.
    """
    if name not in _READERS or name not in installed_samples():
        raise BadSource(f"There is no sample of this name here. Installed: {', '.join(installed_samples())}.")
    try:
        return _READERS[name](name, limits)
    except DataError as error:
        raise BadSource(f"The sample is damaged: {error}") from error


def _images(name: str, limits: Limits) -> Reading:
    found = load_images(name)

    def rows(x_NCHW: Tensor, y_N: Tensor, split: Split) -> Iterator[tuple[Content, str, Split]]:
        pixels = x_NCHW.permute(0, 2, 3, 1).contiguous().numpy()
        for picture, label in zip(pixels, y_N.tolist(), strict=True):
            yield from_pixels(picture, limits), found.classes[label], split

    train = rows(found.train_x, found.train_y, "train")
    return Reading("images", _numbered(train, rows(found.test_x, found.test_y, "test")))


def _texts(name: str, limits: Limits) -> Reading:
    found = load_texts(name)

    def rows(texts: Sequence[tuple[str, int]], split: Split) -> Iterator[tuple[Content, str, Split]]:
        for text, label in texts:
            yield text, found.classes[label], split

    return Reading("texts", _checked(_numbered(rows(found.train, "train"), rows(found.test, "test")), limits))


def _brown(_name: str, _limits: Limits) -> Reading:
    found = load_brown()

    def rows(
        sentences: Sequence[tuple[list[str], list[int]]], split: Split
    ) -> Iterator[tuple[Content, None, Split]]:
        for words, tags in sentences:
            yield Tagged(words, [found.tags[tag] for tag in tags]), None, split

    return Reading("tagged", _numbered(rows(found.train, "train"), rows(found.test, "test")))


def _phonemes(_name: str, _limits: Limits) -> Reading:
    found = load_phonemes()

    def rows(pairs: Sequence[tuple[str, list[str]]], split: Split) -> Iterator[tuple[Content, None, Split]]:
        for word, phones in pairs:
            yield Pair(word, " ".join(phones)), None, split

    return Reading("pairs", _numbered(rows(found.train, "train"), rows(found.test, "test")))


def _shakespeare(_name: str, _limits: Limits) -> Reading:
    found = load_shakespeare()

    def rows(text: str, split: Split) -> Iterator[tuple[Content, None, Split]]:
        for piece in pieces_of(iter([text])):
            yield piece, None, split

    train = rows(found.train, "train")
    return Reading("texts", _numbered(train, rows(found.test, "test")), is_running_text=True)


def _numbered(*parts: Iterator[tuple[Content, str | None, Split]]) -> Iterator[Row | Issue]:
    number = count(1)
    for content, label, split in chain(*parts):
        yield Row(next(number), content, label, split)


def _checked(rows: Iterator[Row | Issue], limits: Limits) -> Iterator[Row | Issue]:
    for row in rows:
        try:
            if isinstance(row, Row) and isinstance(row.content, str):
                clean_text(row.content, limits.max_field_bytes)
            yield row
        except BadRow as error:
            yield Issue(row.number if isinstance(row, Row) else None, str(error))


_READERS: dict[str, Callable[[str, Limits], Reading]] = {
    **dict.fromkeys(IMAGE_SETS, _images),
    **dict.fromkeys(TEXT_SETS, _texts),
    "brown": _brown,
    "phonemes": _phonemes,
    "shakespeare": _shakespeare,
}
