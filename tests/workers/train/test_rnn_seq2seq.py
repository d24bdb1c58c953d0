"""Letters become phonemes, and errors are counted as they should be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.train.scenarios import quiet
from workers.nets.contracts import TokensInput
from workers.nets.manifest import load_artifact
from workers.nets.table import build_net
from workers.train.configs import RNNOptions
from workers.train.data import Ragged, load_phonemes
from workers.train.data.vocabularies import END, SPECIALS, START, character_tokenizer, encode_rows
from workers.train.export import export
from workers.train.trainers import RNNTrainer
from workers.train.trainers.rnn.edits import edit_distance

_ROWS = st.lists(st.lists(st.integers(0, 3), max_size=7), min_size=3, max_size=3)


def distance(one: list[int], other: list[int]) -> int:
    """By the textbook (Wagner and Fischer, 1974)."""
    costs = list(range(len(other) + 1))
    for row, left in enumerate(one, 1):
        before, costs[0] = costs[0], row
        for column, right in enumerate(other, 1):
            before, costs[column] = (
                costs[column],
                min(before + (left != right), costs[column] + 1, costs[column - 1] + 1),
            )
    return costs[-1]


@given(_ROWS, _ROWS)
def test_edit_distances_of_many_rows_are_those_of_the_textbook(
    guesses: list[list[int]], targets: list[list[int]]
) -> None:
    padded = [Ragged.of(rows).pad(torch.arange(3), 9) for rows in (guesses, targets)]

    found = edit_distance(*padded[0], *padded[1])

    assert [distance(guess, target) for guess, target in zip(guesses, targets, strict=True)] == found.tolist()


def phonemes(folder: Path, *, cell: str = "lstm", steps: int = 400) -> RNNTrainer:
    found = load_phonemes()
    train = [(word, spoken) for word, spoken in found.train if len(word) <= 5][:6000]
    test = [(word, spoken) for word, spoken in found.test if len(word) <= 5][:200]
    tokenizer = character_tokenizer(word for word, _ in train)
    symbols = [*SPECIALS, *sorted({symbol for _, spoken in train for symbol in spoken})]
    data = [
        {
            "ids": encode_rows(tokenizer, [word for word, _ in part]),
            "target": Ragged.of(
                [[START, *(symbols.index(each) for each in spoken), END] for _, spoken in part]
            ),
        }
        for part in (train, test)
    ]
    torch.manual_seed(0)
    sizes = {"vocabulary_size": tokenizer.get_vocab_size(), "target_size": len(symbols)}
    net = {
        "embedding_dim": 24,
        "embedding_std": 1.0,
        "hidden": 32,
        "bidirectional": True,
        "target_dim": 24,
        "decoder_hidden": 64,
    }
    trainer = RNNTrainer(
        build_net("rnn_seq2seq", {**net, **sizes, "cell": cell}),
        quiet(folder, metric=None, batch_size=64, lr_scheduler_type="cosine", eval_strategy="no"),
        *data,
        options=RNNOptions(task="seq2seq", max_steps=steps, grad_clip=10.0, most_output=10),
    )
    trainer.describe_input(TokensInput(max_length=30), tokenizer)
    return trainer


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_letters_become_phonemes(cell: str, tmp_path: Path) -> None:
    trainer = phonemes(tmp_path, cell=cell)

    trainer.train()

    logs = trainer.evaluate()
    assert logs["eval_error_rate"] < 0.5
    assert logs["eval_perplexity"] < 4
    sources, wanted = (rows_of(trainer.eval_dataset[name]) for name in ("ids", "target"))
    written = trainer.translate(sources)
    errors = sum(distance(one, other[1:-1]) for one, other in zip(written, wanted, strict=True))
    assert abs(errors / sum(len(row) - 2 for row in wanted) - logs["eval_error_rate"]) < 1e-6


def rows_of(column: Ragged) -> list[list[int]]:
    lengths = column.offsets.diff().tolist()
    return [row.tolist() for row in torch.split(column.values, lengths)]


def test_an_exported_encoder_is_rebuilt_and_gives_the_same_pooled_states(tmp_path: Path) -> None:
    trainer = phonemes(tmp_path / "run", steps=3)
    trainer.train()
    words = ["manner", "a"]

    export(trainer, tmp_path / "artifact")

    rebuilt = load_artifact(tmp_path / "artifact")
    batch = TokensInput(max_length=30).prepare(words, trainer.tokenizer)  # type: ignore[arg-type]
    expected = trainer.model.eval().encode(batch).detach().numpy()  # type: ignore[operator]
    np.testing.assert_allclose(expected, rebuilt.embed(words), atol=1e-6)
    assert not any(name.startswith(("decoder", "head", "target")) for name in rebuilt.net.state_dict())
