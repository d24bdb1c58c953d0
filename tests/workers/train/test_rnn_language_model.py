"""Language models learn real text, carry their state, write, and are exported."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from tests.workers.train.scenarios import quiet
from workers.nets.contracts import TokensInput
from workers.nets.manifest import load_artifact
from workers.nets.table import build_net
from workers.nets.validation import InvalidConfig
from workers.train.configs import RNNOptions
from workers.train.data import load_shakespeare
from workers.train.data.vocabularies import (
    byte_pair_tokenizer,
    character_tokenizer,
    encode_rows,
    encode_stream,
    word_tokenizer,
)
from workers.train.export import export
from workers.train.report import Fact, Samples
from workers.train.trainers import RNNTrainer

_TEXT = load_shakespeare().train[:60_000]
_TRAIN, _TEST = _TEXT[:52_000], _TEXT[52_000:]
TOKENIZERS = {
    "characters": character_tokenizer([_TRAIN]),
    "words": word_tokenizer([_TRAIN], 800),
    "bytes": byte_pair_tokenizer([_TRAIN], 500),
}


def made(
    folder: Path, tokenizer: Tokenizer, net: dict[str, Any] | None = None, steps: int = 60, **options: Any
) -> RNNTrainer:
    torch.manual_seed(0)
    size = {"vocabulary_size": tokenizer.get_vocab_size()}
    trainer = RNNTrainer(
        build_net(
            "rnn_language_model",
            {"embedding_dim": 32, "embedding_std": 1.0, "hidden": 48, **size, **(net or {})},
        ),
        quiet(folder, metric=None, lr_scheduler_type="cosine", eval_strategy="no"),
        encode_stream(tokenizer, _TRAIN),
        encode_stream(tokenizer, _TEST),
        options=RNNOptions(max_steps=steps, grad_clip=1.0, **{"sequence_length": 32, **options}),
    )
    trainer.describe_input(TokensInput(max_length=200), tokenizer)
    return trainer


def unigram_nats(tokenizer: Tokenizer) -> float:
    counts = encode_stream(tokenizer, _TRAIN).bincount(minlength=tokenizer.get_vocab_size()) + 1.0
    return float(-(counts / counts.sum()).log()[encode_stream(tokenizer, _TEST)].mean())


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_every_cell_and_tokenizer_learns_more_than_how_frequent_tokens_are(
    kind: str, cell: str, tmp_path: Path
) -> None:
    tokenizer = TOKENIZERS[kind]
    trainer = made(tmp_path / "run", tokenizer, {"cell": cell}, steps=100)

    trainer.train()

    logs = trainer.evaluate()
    assert logs["eval_epoch_loss"] < unigram_nats(tokenizer) - 0.15
    assert math.isclose(math.exp(logs["eval_epoch_loss"]), logs["eval_perplexity"], rel_tol=1e-9)
    assert ("eval_bits_per_character" in logs) == (kind != "words")


@pytest.mark.parametrize("chunk", [7, 64])
def test_an_evaluation_in_chunks_is_one_long_pass(chunk: int, tmp_path: Path) -> None:
    net = {"num_layers": 2, "hidden_dropout": 0.3, "weight_drop": 0.3}
    trainer = made(tmp_path, TOKENIZERS["characters"], net, steps=10, sequence_length=chunk)
    trainer.train()
    streams = encode_stream(TOKENIZERS["characters"], _TEST)
    per_stream = (len(streams) - 1) // 16
    rows = streams[: 16 * per_stream].view(16, -1), streams[1 : 1 + 16 * per_stream].view(16, -1)

    logs = trainer.evaluate()

    trainer.model.eval()
    with torch.no_grad():
        whole = torch.nn.functional.cross_entropy(
            trainer.model(rows[0]).logits_BLV.flatten(0, 1), rows[1].flatten()
        )
    assert abs(float(whole) - logs["eval_epoch_loss"]) < 1e-5


def test_a_gradient_runs_back_to_the_beginning_of_its_batch_while_the_state_comes_from_before(
    tmp_path: Path,
) -> None:
    trainer = made(tmp_path, TOKENIZERS["characters"])
    net = trainer.model.train()
    first, second = torch.randint(4, 40, (2, 2, 8)).unbind(0)
    with torch.no_grad():
        carried = net(first).hidden
    out = net(second, carried).logits_BLV
    torch.nn.functional.cross_entropy(out[:, :-1].flatten(0, 1), second[:, 1:].flatten()).backward()
    expected = [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
    net.zero_grad()

    trainer.forward_step(net, (first, first))
    trainer.forward_step(net, (second[:, :-1], second[:, 1:])).loss.backward()

    found = [parameter.grad for parameter in net.parameters()]
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other)


def test_without_a_carried_state_every_chunk_begins_anew(tmp_path: Path) -> None:
    carrying = made(tmp_path / "a", TOKENIZERS["characters"], steps=40)
    carrying.train()
    forgetting = made(tmp_path / "b", TOKENIZERS["characters"], carries_state=False)
    forgetting.model.load_state_dict(carrying.model.state_dict())

    assert carrying.evaluate()["eval_epoch_loss"] < forgetting.evaluate()["eval_epoch_loss"]


def test_an_evaluation_in_the_middle_leaves_the_carried_state_alone(tmp_path: Path) -> None:
    plain = made(tmp_path / "a", TOKENIZERS["characters"], steps=12)
    looking = made(tmp_path / "b", TOKENIZERS["characters"], steps=12, num_samples=1, sample_length=5)
    looking.configs.eval_strategy, looking.configs.eval_steps = "steps", 5

    plain.train()
    looking.train()

    for name, weight in plain.model.state_dict().items():
        assert torch.equal(weight, looking.model.state_dict()[name])


def test_bits_a_character_of_byte_pairs_count_the_characters_of_each(tmp_path: Path) -> None:
    trainer = made(tmp_path, TOKENIZERS["bytes"], steps=1)

    logs = trainer.evaluate()

    used = (len(encode_stream(TOKENIZERS["bytes"], _TEST)) - 1) // 16 * 16
    characters = len(
        TOKENIZERS["bytes"].decode(encode_stream(TOKENIZERS["bytes"], _TEST)[1 : used + 1].tolist())
    )
    expected = logs["eval_bits_per_token"] * used / characters
    assert math.isclose(expected, logs["eval_bits_per_character"], rel_tol=1e-6)


def test_words_as_rows_are_learnt_from_their_start_to_their_end(tmp_path: Path) -> None:
    words = sorted({word.lower() for word in _TRAIN.split() if word.isalpha()})[::2]
    tokenizer = character_tokenizer(words)
    torch.manual_seed(0)
    size = {"vocabulary_size": tokenizer.get_vocab_size()}
    trainer = RNNTrainer(
        build_net("rnn_language_model", {"embedding_dim": 16, "embedding_std": 1.0, "hidden": 32, **size}),
        quiet(tmp_path, metric=None),
        {"ids": encode_rows(tokenizer, words[50:], ends=True)},
        {"ids": encode_rows(tokenizer, words[:50], ends=True)},
        options=RNNOptions(max_steps=100),
    )
    trainer.describe_input(TokensInput(max_length=20), tokenizer)

    trainer.train()

    assert trainer.logs["eval_perplexity"] < 20
    written = trainer.generate(top_p=0.9)
    assert written.isalpha()
    assert written == trainer.generate(top_p=0.9)
    assert written != trainer.generate(top_p=0.9, seed=1)


def test_an_evaluation_reports_texts_that_go_on_after_the_prompt(tmp_path: Path) -> None:
    said: list[Fact] = []
    trainer = made(
        tmp_path, TOKENIZERS["characters"], steps=2, num_samples=2, sample_length=9, prompt="KING "
    )
    trainer.report = said.append

    trainer.evaluate()

    texts = next(fact.content.decode() for fact in said if isinstance(fact, Samples))
    assert 2 * (5 + 9) + 2 == len(texts)
    assert texts.startswith("KING ")


def test_words_are_written_with_spaces_between_them(tmp_path: Path) -> None:
    trainer = made(tmp_path, TOKENIZERS["words"])

    written = trainer.generate("the king", sample_length=3)

    assert written.startswith("the king ")
    assert 5 == len(written.split())


def test_only_a_language_model_with_its_tokenizer_writes(tmp_path: Path) -> None:
    trainer = made(tmp_path, TOKENIZERS["words"])
    trainer.tokenizer = None
    with pytest.raises(ValueError, match="needs its tokenizer"):
        trainer.generate()
    net = build_net("rnn_tagger", {"vocabulary_size": 9})
    with pytest.raises(ValueError, match="a tagger writes no texts"):
        RNNTrainer(net, quiet(tmp_path), options=RNNOptions(task="tagger")).generate()


def test_awd_dropouts_and_penalties_hold_in_training_and_are_gone_in_evaluation(tmp_path: Path) -> None:
    net = {"num_layers": 2, "embedding_dropout": 0.1, "input_dropout": 0.3, "hidden_dropout": 0.2}
    net |= {
        "output_dropout": 0.3,
        "weight_drop": 0.4,
        "tied": True,
        "embedding_dim": 48,
        "embedding_std": 0.1,
    }
    penalties = {"activation_penalty": 2.0, "temporal_penalty": 1.0, "label_smoothing": 0.1}
    trainer = made(tmp_path, TOKENIZERS["characters"], net, steps=100, **penalties)

    trainer.train()

    first, second = trainer.evaluate(), trainer.evaluate()
    assert first["eval_epoch_loss"] == second["eval_epoch_loss"] == first["eval_nats"]
    assert first["eval_epoch_loss"] < unigram_nats(TOKENIZERS["characters"])
    assert trainer.logs["epoch_loss"] > trainer.logs["nats"]


def test_an_exported_model_is_rebuilt_and_gives_the_same_pooled_states(tmp_path: Path) -> None:
    trainer = made(
        tmp_path / "run",
        TOKENIZERS["bytes"],
        {"tied": True, "embedding_dim": 48, "embedding_std": 0.1},
        steps=10,
    )
    trainer.train()
    texts = ["What, ho!", "The king is dead, and I am come to tell it.", ""]

    manifest = export(trainer, tmp_path / "artifact")

    rebuilt = load_artifact(tmp_path / "artifact")
    batch = TokensInput(max_length=200).prepare(texts, TOKENIZERS["bytes"])
    expected = trainer.model.eval().encode(batch).detach().numpy()  # type: ignore[operator]
    np.testing.assert_allclose(expected, rebuilt.embed(texts), atol=1e-6)
    np.testing.assert_allclose(expected[:1], rebuilt.embed(texts[:1]), atol=1e-6)
    assert 3 * 48 == manifest.dimension
    assert not any(name.startswith("head") for name in rebuilt.net.state_dict())


def test_options_that_mean_nothing_for_the_task_are_all_named(tmp_path: Path) -> None:
    net = build_net("rnn_classifier", {"vocabulary_size": 9})
    options = RNNOptions(task="classifier", sequence_length=9, top_p=0.5, most_output=3, end=1)

    with pytest.raises(InvalidConfig) as found:
        RNNTrainer(net, quiet(tmp_path), options=options)

    names = {"sequence_length", "top_p", "most_output", "unknown"}
    assert {("options", name) for name in names} == {problem.path for problem in found.value.problems}


def test_a_net_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="LanguageModel learns language_model"):
        RNNTrainer(build_net("rnn_tagger", {"vocabulary_size": 9}), quiet(tmp_path))
