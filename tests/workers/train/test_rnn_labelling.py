"""Classifiers and taggers learn real texts and pictures, and are exported."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.train.scenarios import quiet
from workers.nets.contracts import TokensInput
from workers.nets.manifest import load_artifact
from workers.nets.table import build_net
from workers.nets.validation import InvalidConfig
from workers.train.configs import RNNOptions
from workers.train.data import Ragged, load_images, load_shakespeare, load_texts, unit_range
from workers.train.data.vocabularies import character_tokenizer, encode_rows
from workers.train.export import export
from workers.train.trainers import RNNTrainer


def names(folder: Path, *, steps: int = 120, **net: Any) -> RNNTrainer:
    """Which of two countries a name is from."""
    found = load_texts("names")
    kept = (found.classes.index("Finland"), found.classes.index("Italy"))
    parts = [
        [(name, kept.index(label)) for name, label in part if label in kept]
        for part in (found.train, found.test)
    ]
    tokenizer = character_tokenizer(name for name, _ in parts[0])
    data = [
        {
            "ids": encode_rows(tokenizer, [name for name, _ in part]),
            "label": torch.tensor([label for _, label in part]),
        }
        for part in parts
    ]
    torch.manual_seed(0)
    config = {
        "embedding_dim": 16,
        "embedding_std": 1.0,
        "hidden": 24,
        "vocabulary_size": tokenizer.get_vocab_size(),
        **net,
    }
    trainer = RNNTrainer(
        build_net("rnn_classifier", config),
        quiet(folder),
        *data,
        options=RNNOptions(task="classifier", max_steps=steps, word_dropout=0.05),
    )
    trainer.describe_input(TokensInput(max_length=30), tokenizer)
    return trainer


@pytest.mark.parametrize("pooling", ["concat", "mean", "max", "last"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_classifier_tells_where_names_are_from_however_it_pools(
    cell: str, pooling: str, tmp_path: Path
) -> None:
    trainer = names(tmp_path, cell=cell, pooling=pooling, bidirectional=True)

    trainer.train()

    assert trainer.logs["eval_epoch_metric"] > 0.85


def test_a_row_is_read_the_same_whatever_it_is_padded_with(tmp_path: Path) -> None:
    trainer = names(tmp_path, steps=5, bidirectional=True, num_layers=2, hidden_dropout=0.2)
    trainer.train()
    net: Any = trainer.model.eval()
    rows = [[5, 6, 7], [8, 9, 10, 11, 12, 13], [4]]
    ids, lengths = Ragged.of(rows).pad(torch.arange(3), 0)

    together = net(ids, lengths)

    for at, row in enumerate(rows):
        torch.testing.assert_close(net(torch.tensor([row])), together[at : at + 1], rtol=0, atol=1e-6)


def test_an_exported_classifier_is_rebuilt_and_gives_the_same_pooled_states(tmp_path: Path) -> None:
    trainer = names(tmp_path / "run", steps=5, bidirectional=True)
    trainer.train()
    given = ["Virtanen", "Di", "Giuseppe"]

    manifest = export(trainer, tmp_path / "artifact")

    rebuilt = load_artifact(tmp_path / "artifact")
    batch = trainer.input_contract.prepare(given, trainer.tokenizer)  # type: ignore[union-attr, call-arg, arg-type]
    expected = trainer.model.eval().encode(batch).detach().numpy()  # type: ignore[operator]
    np.testing.assert_allclose(expected, rebuilt.embed(given), atol=1e-6)
    assert 3 * 2 * 24 == manifest.dimension
    assert "rnn_classifier_encoder" == manifest.net


def test_an_encoder_of_texts_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    trainer = names(tmp_path)
    trainer.tokenizer = None

    with pytest.raises(ValueError, match="needs its tokenizer"):
        trainer.encoder()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_pictures_are_read_row_by_row_and_exported(cell: str, tmp_path: Path) -> None:
    digits = load_images("digits")
    torch.manual_seed(0)
    net = build_net("rnn_classifier", {"row_size": 8, "hidden": 48, "num_classes": 10, "cell": cell})
    trainer = RNNTrainer(
        net,
        quiet(tmp_path / "run", batch_size=64, eval_strategy="no"),
        (unit_range(digits.train_x), digits.train_y),
        (unit_range(digits.test_x), digits.test_y),
        options=RNNOptions(task="classifier", max_steps=300),
    )

    trainer.train()

    assert trainer.evaluate()["eval_epoch_metric"] > 0.88
    export(trainer, tmp_path / "artifact")
    expected = trainer.model.eval().encode(unit_range(digits.test_x[:5])).detach().numpy()  # type: ignore[operator]
    rebuilt = load_artifact(tmp_path / "artifact")
    np.testing.assert_allclose(expected, rebuilt.embed(list(digits.test_x[:5])), atol=1e-6)


def test_words_of_pictures_cant_be_dropped(tmp_path: Path) -> None:
    options = RNNOptions(task="classifier", word_dropout=0.1)

    with pytest.raises(InvalidConfig, match="has no unknown word"):
        RNNTrainer(build_net("rnn_classifier", {"row_size": 8}), quiet(tmp_path), options=options)


def test_a_tagger_tells_which_letters_of_shakespeare_were_capital(tmp_path: Path) -> None:
    lines = [line for line in load_shakespeare().train.splitlines() if line][200:1700]
    texts = [[line.lower() for line in part] for part in (lines[150:], lines[:150])]
    tags = [[[int(each.isupper()) for each in line] for line in part] for part in (lines[150:], lines[:150])]
    tokenizer = character_tokenizer(texts[0])
    torch.manual_seed(0)
    config = {"vocabulary_size": tokenizer.get_vocab_size(), "num_tags": 2, "cell": "gru"}
    trainer = RNNTrainer(
        build_net("rnn_tagger", {**config, "hidden": 24, "embedding_std": 1.0, "bidirectional": True}),
        quiet(tmp_path, metric="F1", eval_strategy="no"),
        *(
            {"ids": encode_rows(tokenizer, rows), "labels": Ragged.of(y)}
            for rows, y in zip(texts, tags, strict=True)
        ),
        options=RNNOptions(task="tagger", max_steps=120, grad_clip=10.0),
    )

    trainer.train()

    # Always small: an F1 of about 1/2, the mean of nearly 1 and 0.
    assert trainer.evaluate()["eval_epoch_metric"] > 0.8


def test_the_loss_of_a_tagger_leaves_out_what_follows_a_row(tmp_path: Path) -> None:
    net = build_net("rnn_tagger", {"vocabulary_size": 9, "num_tags": 3, "embedding_dim": 4, "hidden": 4})
    trainer = RNNTrainer(net, quiet(tmp_path), options=RNNOptions(task="tagger"))
    net.eval()
    long = {"ids": torch.tensor([[4, 5, 6]]), "labels": torch.tensor([[0, 1, 2]])}
    short = {"ids": torch.tensor([[7]]), "labels": torch.tensor([[1]])}
    both = {
        "ids": torch.tensor([[4, 5, 6], [7, 0, 0]]),
        "labels": torch.tensor([[0, 1, 2], [1, 0, 0]]),
        "ids_lengths": torch.tensor([3, 1]),
    }

    together = trainer.forward_step(net, both)

    apart = (trainer.forward_step(net, long).loss + trainer.forward_step(net, short).loss) / 2
    torch.testing.assert_close(apart, together.loss)
    assert [[0, 1, 2], [1, -100, -100]] == together.targets.tolist()  # type: ignore[union-attr]
