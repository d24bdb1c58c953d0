"""The real sets are read as they are, out of pinned bytes, and nothing in an archive is run."""

import gzip
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workers.train.data import (
    IMAGE_SETS,
    TEXT_SETS,
    DataDamaged,
    DataMissing,
    load_brown,
    load_images,
    load_phonemes,
    load_shakespeare,
    load_texts,
    unit_range,
)
from workers.train.data import images as images_module
from workers.train.data.archives import ARCHIVES, locate
from workers.train.data.fetch import main

_SIZES = {
    "mnist": (60_000, 10_000),
    "fashion_mnist": (60_000, 10_000),
    "cifar10": (50_000, 10_000),
    "digits": (1437, 360),
}
_TEXTS = {
    "bbc_news": (5, 2225),
    "movie_snippets": (2, 10_568),
    "spam_assassin": (2, 6046),
    "names": (18, 13_001),
}


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_pictures_have_their_known_numbers(name: str) -> None:
    found = load_images(name)

    assert _SIZES[name] == (len(found.train_x), len(found.test_x))
    assert (0, 255) == (int(found.train_x.min()), int(found.train_x.max()))
    assert set(range(10)) == set(found.train_y.tolist()) == set(found.test_y.tolist())
    assert 10 == len(found.classes)
    if name in {"fashion_mnist", "cifar10"}:
        assert 1 == len(set(found.train_y.bincount().tolist()))


def test_a_part_is_the_same_each_time_and_never_shares_rows() -> None:
    found = load_images("digits")

    one, again = found.part(300, 100), found.part(300, 100)

    assert bool((one.train_x == again.train_x).all())
    assert (300, 100) == (len(one.train_x), len(one.test_x))
    assert 1.0 == float(unit_range(one.train_x).max())
    with pytest.raises(ValueError, match="1438 rows asked for, 1437 there"):
        found.part(1438, 1)


@pytest.mark.parametrize("name", TEXT_SETS)
def test_texts_have_their_known_numbers(name: str) -> None:
    found = load_texts(name)
    num_classes, num_rows = _TEXTS[name]

    assert (num_classes, num_rows) == (len(found.classes), len(found.train) + len(found.test))
    assert (
        set(range(num_classes)) == {label for _, label in found.train} == {label for _, label in found.test}
    )
    assert all(text.strip() for text, _ in found.train)


def test_running_text_tags_and_phonemes_are_there() -> None:
    plays, brown, phonemes = load_shakespeare(), load_brown(), load_phonemes()

    assert "To be, or not to be" in plays.train + plays.test
    assert abs(len(plays.test) / (len(plays.train) + len(plays.test)) - 0.1) < 0.001
    assert 57_340 == len(brown.train) + len(brown.test)
    assert all(len(words) == len(tags) for words, tags in brown.train[:1000])
    assert {"nn", "vb", "at", "."} <= set(brown.tags)
    assert ["K", "AE", "T"] == dict([*phonemes.train, *phonemes.test])["cat"]
    assert 39 == len({phone for _, phones in phonemes.train for phone in phones})


def test_what_was_not_fetched_and_what_was_changed_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="make training-data"):
        locate("names", tmp_path)

    (tmp_path / ARCHIVES["names"].file_name).write_bytes(b"something else")
    with pytest.raises(DataDamaged, match="pinned SHA-256"):
        locate("names", tmp_path)


def test_fetching_again_does_nothing(capsys: Any) -> None:
    assert 0 == main(["names", "phonemes"])

    assert 2 == capsys.readouterr().out.count("there")


def test_a_pickle_in_an_archive_is_read_without_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace"

    class Planted:
        def __reduce__(self) -> Any:
            return Path.touch, (trace,)

    wheel = tmp_path / ARCHIVES["mnist"].file_name
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mnist/data/mnist.pkl.gz", gzip.compress(pickle.dumps(Planted(), protocol=2)))
    monkeypatch.setattr(images_module, "locate", lambda *_: wheel)

    with pytest.raises(DataDamaged, match="three pairs"):
        load_images("mnist", tmp_path)

    assert not trace.exists()


def test_the_arrays_of_a_pickle_are_what_unpickling_gives() -> None:
    generator = np.random.default_rng(0)
    pairs = [
        (generator.random((5, 784), np.float32), generator.integers(0, 10, 5)),
        (generator.random((3, 784), np.float32), generator.integers(0, 10, 3)),
        (generator.random((2, 784), np.float32), generator.integers(0, 10, 2)),
    ]
    # As Python 2 wrote it: raw bytes as opcode BINSTRING.
    stream = b"\x80\x02" + b"".join(
        b"T" + len(array.tobytes()).to_bytes(4, "little") + array.tobytes() + b"0"
        for pair in pairs
        for array in pair
    )

    found = images_module._arrays_of_pickle(stream + b"N.")

    for expected, array in zip([array for pair in pairs for array in pair], found, strict=True):
        np.testing.assert_array_equal(expected.reshape(-1), array)
