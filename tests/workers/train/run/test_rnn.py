"""Recurrent nets as a training of the service asks for them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from bus.messages.training import RnnParameters
from bus.messages.work import GenerationSpec
from tests.workers.train.run.stored import (
    Stored,
    built,
    check_resume,
    check_vectors,
    curve,
    stored,
    texts,
    trained,
    untrained_loss,
)
from workers.nets.manifest import load_artifact
from workers.train.data import load_brown, load_phonemes, load_shakespeare
from workers.train.report import Samples
from workers.train.run import CannotTrain, export_model, generate
from workers.train.run.hosted import RNNTrainer

SMALL = RnnParameters(hidden=32, embedding_dim=32, batch_size=16, learning_rate=1e-2)


def names() -> Stored:
    return texts("names", 2000, 400)


def news() -> Stored:
    return texts("bbc_news", 400, 100)


def shakespeare() -> Stored:
    corpus = load_shakespeare()
    parts = [
        [text[at : at + 5000] for at in range(0, len(text), 5000)]
        for text in (corpus.train[:100_000], corpus.test[:10_000])
    ]
    return stored("texts", parts[0], parts[1], is_running_text=True)


def tagged() -> Stored:
    found = load_brown()
    parts = [
        [(words, [found.tags[tag] for tag in tags]) for words, tags in part]
        for part in (found.train[:800], found.test[:100])
    ]
    return stored("tagged", parts[0], parts[1], classes=found.tags)


def phonemes() -> Stored:
    found = load_phonemes()
    parts = [
        [(word, " ".join(spoken)) for word, spoken in part] for part in (found.train[:1500], found.test[:100])
    ]
    return stored("pairs", parts[0], parts[1])


CASES: dict[str, tuple[Callable[[], Stored], int, str, float]] = {
    "names": (names, 120, "rnn_classifier", 0.8),
    "news": (news, 50, "rnn_classifier", 0.97),
    "a running text": (shakespeare, 80, "rnn_language_model", 0.9),
    "tags": (tagged, 60, "rnn_tagger", 0.7),
    "pairs": (phonemes, 100, "rnn_seq2seq", 0.9),
}


@pytest.mark.parametrize(("data", "steps", "net", "share"), CASES.values(), ids=CASES)
def test_the_data_says_the_task_and_it_is_learnt(
    data: Callable[[], Stored], steps: int, net: str, share: float, tmp_path: Path
) -> None:
    rows = data()

    trainer, said = trained(SMALL, rows, tmp_path, max_steps=steps)

    losses = curve(said)
    assert losses[-1] < share * untrained_loss(SMALL, rows, tmp_path, max_steps=steps)
    found = export_model(trainer, rows, tmp_path / "model")
    assert ("TEXT", losses[-1]) == (found.modality, found.metrics["loss"])
    assert net == load_artifact(tmp_path / "model" / "net").manifest.net
    check_vectors(trainer, tmp_path / "model", inputs(rows)[:6])


def inputs(rows: Stored) -> list[str]:
    """What would be embedded."""
    found = rows.rows["test"]
    if rows.facts.kind == "tagged":
        return [" ".join(words) for words, _ in found]
    return [source for source, _ in found] if rows.facts.kind == "pairs" else found


def test_short_texts_and_running_text_are_spelt_and_long_ones_read_word_by_word(tmp_path: Path) -> None:
    tokens = [tokenizer_of(data(), tmp_path).encode("so it is").tokens for data in (names, shakespeare, news)]

    assert [list("so it is"), list("so it is"), ["so", "it", "is"]] == tokens


def tokenizer_of(rows: Stored, folder: Path) -> Tokenizer:
    tokenizer = built(SMALL, rows, folder).tokenizer
    assert tokenizer is not None
    return tokenizer


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> tuple[RNNTrainer, Path]:
    """A language model, and where it was exported."""
    folder, rows = tmp_path_factory.mktemp("writer"), shakespeare()
    parameters = RnnParameters(hidden=32, embedding_dim=32, batch_size=16, prompt="KING ", sample_length=30)
    trainer, said = trained(parameters, rows, folder, max_steps=10)
    assert "texts" == export_model(trainer, rows, folder / "model").generates
    shown = [fact.content.decode() for fact in said if isinstance(fact, Samples)]
    assert len(shown) > 1
    assert all(text.startswith("KING ") for text in shown)
    assert isinstance(trainer, RNNTrainer)
    return trainer, folder / "model"


def test_a_text_is_the_one_that_the_trainer_would_write(
    writer: tuple[RNNTrainer, Path], tmp_path: Path
) -> None:
    trainer, model = writer
    spec = GenerationSpec(count=1, seed=4, prompt="KING ", length=80, temperature=0.7, top_p=0.8)

    assert "text/plain" == generate(model, spec, [], tmp_path)

    expected = trainer.generate("KING ", seed=4, temperature=0.7, top_p=0.8, sample_length=80)
    assert [expected] == written(tmp_path)


def written(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.iterdir())]


def test_the_same_seed_writes_the_same_texts_and_another_others(
    writer: tuple[RNNTrainer, Path], tmp_path: Path
) -> None:
    _, model = writer
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        generate(model, GenerationSpec(count=66, seed=seed, length=20), [], tmp_path / name)

    one, same, other = (written(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same
    assert one != other
    assert 66 == len(set(one))


def test_a_classifier_generates_nothing(tmp_path: Path) -> None:
    rows = names()
    trainer, _ = trained(SMALL, rows, tmp_path, max_steps=1)
    export_model(trainer, rows, tmp_path / "model")

    with pytest.raises(CannotTrain, match="generates nothing"):
        generate(tmp_path / "model", GenerationSpec(), [], tmp_path / "out")


def test_a_language_model_goes_on_from_its_parent_with_its_words(
    writer: tuple[RNNTrainer, Path], tmp_path: Path
) -> None:
    trainer, model = writer
    other = stored("texts", ["all of this is to be read. " * 100], [], is_running_text=True)
    parameters = RnnParameters(hidden=32, embedding_dim=32, batch_size=4)

    second = built(parameters, other, tmp_path, parent=model)

    assert trainer.tokenizer is not None
    assert second.tokenizer is not None
    assert trainer.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    assert torch.equal(
        load_artifact(model / "net").net.state_dict()["head.weight"], second.model.state_dict()["head.weight"]
    )


@pytest.mark.parametrize("data", [names, shakespeare, tagged, phonemes])
def test_training_goes_on_exactly(data: Callable[[], Stored], tmp_path: Path) -> None:
    rows = data()
    parameters = RnnParameters(hidden=8, embedding_dim=8, batch_size=8, num_layers=2, cell="gru")

    check_resume(lambda folder: built(parameters, rows, folder, max_steps=7), tmp_path, batch=4)


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    short = stored("texts", ["so little"] * 4, [])
    one = stored(
        "texts", ["a", "b"] * 20, [], (torch.zeros(40, dtype=torch.long), torch.empty(0)), ["x", "y"]
    )

    with pytest.raises(CannotTrain, match="are 39 tokens, and a batch takes 2,112"):
        built(RnnParameters(), short, tmp_path)
    with pytest.raises(CannotTrain, match="all rows for training are of class 'x'"):
        built(RnnParameters(), one, tmp_path)
    with pytest.raises(CannotTrain, match="not what a tagger learns from"):
        built(RnnParameters(task="tagger"), short, tmp_path)
    with pytest.raises(CannotTrain, match="too small for byte pairs"):
        built(RnnParameters(tokens="byte_pairs", vocabulary_size=100), short, tmp_path)
    with pytest.raises(CannotTrain, match="one tag for each word"):
        built(RnnParameters(tokens="characters"), tagged(), tmp_path)
