"""The trainers' own sets as data sets."""

from pathlib import Path

import pytest

from workers.train.data import load_brown, load_phonemes, load_shakespeare, load_texts
from workers.train.datasets import SampleSource, installed_samples, open_prepared, validate


def test_installed_samples_are_those_whose_files_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing was fetched only the digits are, which come with a library."""
    everything = {
        "mnist", "fashion_mnist", "cifar10", "digits", "bbc_news", "movie_snippets", "spam_assassin",
        "shakespeare", "brown", "names", "phonemes",
    }  # fmt: skip
    assert everything == set(installed_samples())

    monkeypatch.setenv("TOWHEE_API_TRAINING_DATA", str(tmp_path))

    assert ["digits"] == installed_samples()
    found = validate(SampleSource(name="mnist"), tmp_path / "made")
    assert "There is no sample of this name here. Installed: digits." == found.issues[0].message


def test_samples_keep_their_own_tests(tmp_path: Path) -> None:
    """So that numbers can be compared with the report's."""
    names = load_texts("names")
    found = validate(SampleSource(name="names"), tmp_path / "names")
    data = open_prepared(tmp_path / "names")

    assert ({"train": 10_401, "test": 2600}, list(names.classes)) == (found.splits, found.classes)
    assert [text for text, _ in names.test] == data.texts("test")
    assert [label for _, label in names.train] == data.labels("train").tolist()


def test_the_play_is_whole(tmp_path: Path) -> None:
    """Its pieces give it again."""
    whole = load_shakespeare()
    found = validate(SampleSource(name="shakespeare"), tmp_path / "made")
    data = open_prepared(tmp_path / "made")

    assert found.is_running_text
    assert whole.test.strip() == "".join(data.texts("test")).strip()
    assert whole.train.strip() == "".join(data.texts("train")).strip()


def test_words_and_sentences_of_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs and tagged sentences."""
    phonemes = load_phonemes()
    validate(SampleSource(name="phonemes"), tmp_path / "phonemes")
    pairs = open_prepared(tmp_path / "phonemes").pairs("test")
    assert [(word, " ".join(phones)) for word, phones in phonemes.test] == pairs

    brown = load_brown()
    part = brown._replace(train=brown.train[:2000], test=brown.test[:200])
    monkeypatch.setattr("workers.train.datasets.samples.load_brown", lambda: part)
    found = validate(SampleSource(name="brown"), tmp_path / "brown")
    words, tags = open_prepared(tmp_path / "brown").tagged("test")[0]
    assert {"train": 2000, "test": 200} == found.splits
    assert set(found.classes) <= set(brown.tags)
    assert brown.test[0] == (words, [brown.tags.index(tag) for tag in tags])
