"""Recurrent layers are torch's own, dropouts do what they say, streams and vocabularies keep their order."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from workers.nets.recurrent import (
    RecurrentConfig,
    RecurrentStack,
    embedding_dropout,
    locked_dropout,
    turn_round,
)
from workers.nets.table import build_net
from workers.nets.validation import InvalidConfig
from workers.train.data import LoadPlan
from workers.train.data.streams import StreamLoader
from workers.train.data.vocabularies import (
    UNKNOWN,
    byte_pair_tokenizer,
    character_tokenizer,
    encode_stream,
    word_tokenizer,
)
from workers.train.evidence.counting import ngram_bits, unigram_bits
from workers.train.losses.sequences import temporal_penalty
from workers.train.trainers.rnn.sampling import draw, nucleus


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_bidirectional_stack_is_torchs_over_packed_sequences(cell: str) -> None:
    torch.manual_seed(0)
    stack = RecurrentStack(5, RecurrentConfig(cell=cell, hidden=7, num_layers=2, bidirectional=True))  # type: ignore[arg-type]
    theirs = (nn.LSTM if cell == "lstm" else nn.GRU)(5, 7, num_layers=2, bidirectional=True, batch_first=True)
    for number, layer in enumerate(stack.layers):
        for suffix, direction in zip(("", "_reverse"), layer.directions, strict=True):  # type: ignore[arg-type]
            for name, weight in direction.named_parameters():
                theirs.get_parameter(name.replace("l0", f"l{number}{suffix}")).data.copy_(weight)
    x, lengths = torch.randn(3, 6, 5), torch.tensor([2, 6, 4])

    ours, _ = stack(x, None, lengths)

    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    for at, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(expected[at, :length], ours[at, :length], rtol=0, atol=1e-6)


def test_turning_a_row_round_twice_gives_it_back() -> None:
    x, lengths = torch.arange(8.0).view(2, 4, 1), torch.tensor([3, 4])

    once = turn_round(x, lengths)

    assert [[2, 1, 0, 3], [7, 6, 5, 4]] == once[..., 0].tolist()
    assert torch.equal(x, turn_round(once, lengths))


def test_a_locked_dropout_leaves_out_the_same_numbers_at_every_step() -> None:
    torch.manual_seed(0)

    dropped = locked_dropout(torch.ones(4, 9, 50), 0.3, training=True)

    assert torch.equal(dropped, dropped[:, :1].expand(-1, 9, -1))
    assert {0.0, round(1 / 0.7, 4)} == {round(value, 4) for value in dropped.flatten().tolist()}
    assert torch.equal(torch.ones(4, 9, 50), locked_dropout(torch.ones(4, 9, 50), 0.3, training=False))


def test_an_embedding_dropout_leaves_out_whole_words_wherever_they_stand() -> None:
    torch.manual_seed(0)
    ids = torch.randint(0, 20, (6, 30))

    dropped = embedding_dropout(torch.ones(6, 30, 3), ids, 20, 0.5)

    by_word = [set(dropped[ids == word].flatten().tolist()) for word in range(20)]
    assert all(len(values) == 1 for values in by_word)
    assert {0.0, 2.0} == set.union(*by_word)


def test_a_weight_drop_thins_out_hidden_weights_in_training_only() -> None:
    torch.manual_seed(0)
    stack = RecurrentStack(5, RecurrentConfig(hidden=7, weight_drop=0.5))
    x = torch.randn(2, 6, 5)

    first, second = stack(x)[0], stack(x)[0]
    torch.testing.assert_close(first[:, 0], second[:, 0])  # nothing hidden comes before the first step
    assert not torch.allclose(first, second)
    stack.eval()

    assert torch.equal(stack(x)[0], stack(x)[0])


def test_the_temporal_penalty_is_the_mean_square_of_changes() -> None:
    states = torch.tensor([[[0.0], [1.0], [3.0]]])

    assert 2.5 == float(temporal_penalty(states))
    assert 0.0 == float(temporal_penalty(states[:, :1]))


@pytest.mark.parametrize(
    ("name", "config", "path"),
    [
        ("rnn_classifier", {}, "vocabulary_size"),
        ("rnn_classifier", {"vocabulary_size": 9, "row_size": 3}, "vocabulary_size"),
        ("rnn_classifier", {"row_size": 3, "embedding_dropout": 0.1}, "embedding_dropout"),
        ("rnn_classifier", {"row_size": 3, "hidden_dropout": 0.1}, "hidden_dropout"),
        ("rnn_language_model", {"vocabulary_size": 9, "bidirectional": True}, "bidirectional"),
        ("rnn_language_model", {"vocabulary_size": 9, "tied": True, "hidden": 3}, "tied"),
        ("rnn_seq2seq", {"row_size": 9, "target_size": 9}, "vocabulary_size"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused_with_the_fields_path(
    name: str, config: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidConfig) as found:
        build_net(name, config)

    assert ("config", path) in {problem.path for problem in found.value.problems}


def test_a_tied_model_has_no_head_of_its_own() -> None:
    net = build_net("rnn_language_model", {"vocabulary_size": 9, "tied": True, "hidden": 64})

    assert {"embed.weight", "head_bias"} == {
        name for name in net.state_dict() if not name.startswith("stack")
    }


@given(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=9, unique=True), st.floats(0.05, 0.99))
def test_a_nucleus_is_the_fewest_tokens_that_have_the_share(numbers: list[float], top_p: float) -> None:
    logits = torch.tensor([numbers], dtype=torch.float64)
    shares = torch.softmax(logits, 1)[0]

    kept = shares[nucleus(logits, top_p)[0].isfinite()]

    assert float(kept.sum()) >= top_p - 1e-9
    assert float(kept.sum() - kept.min()) < top_p + 1e-9
    assert torch.equal(kept.sort().values, shares.sort().values[-len(kept) :])


def test_drawing_follows_the_temperature() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, math.log(3.0)]]).expand(4000, 2)

    assert abs(float(draw(logits).float().mean()) - 3 / 4) < 0.03
    assert abs(float(draw(logits, temperature=0.5).float().mean()) - 9 / 10) < 0.03
    assert 1.0 == float(draw(logits, top_p=0.5).float().mean())


def test_streams_go_on_where_the_batch_before_ended_and_targets_are_one_ahead() -> None:
    loader = StreamLoader(torch.arange(100), LoadPlan(3, shuffle=False), 8)

    inputs, targets = zip(*loader, strict=True)

    whole = torch.cat(inputs, 1)
    assert [0, 33, 66] == whole[:, 0].tolist()
    assert torch.equal(torch.arange(33), whole[0])
    assert torch.equal(whole + 1, torch.cat(targets, 1))
    assert 5 == loader.num_batches()


def test_streams_of_two_processes_are_those_of_one_with_twice_as_many() -> None:
    plan = LoadPlan(4, seed=3, drop_last=True)
    one = list(StreamLoader(torch.arange(200), plan, 8))
    two = [
        list(StreamLoader(torch.arange(200), plan._replace(batch_size=2, rank=rank, world_size=2), 8))
        for rank in (0, 1)
    ]

    for whole, *halves in zip(one, *two, strict=True):
        assert torch.equal(whole[0], torch.cat([half[0] for half in halves]))


def test_each_epoch_of_a_stream_is_cut_elsewhere_and_a_place_in_it_is_found_again() -> None:
    plan = LoadPlan(2, seed=1, drop_last=True)
    whole, broken, resumed = (StreamLoader(torch.arange(90), plan, 8) for _ in range(3))
    first, second = ([batch[0] for batch in whole] for _ in range(2))
    assert not torch.equal(first[0], second[0])
    for number, _ in enumerate(broken, 1):
        if number == len(first):
            break
    list(broken)
    for number, _ in enumerate(broken, 1):
        if number == 2:
            break

    resumed.load_state_dict(broken.state_dict())

    assert torch.equal(torch.stack(second[2:]), torch.stack([batch[0] for batch in resumed]))


def test_a_text_that_makes_no_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="make no batch"):
        StreamLoader(torch.arange(9), LoadPlan(8, drop_last=True), 4)


@given(st.text(alphabet="ab \né", max_size=60))
def test_characters_and_bytes_give_the_text_back(text: str) -> None:
    for tokenizer in (character_tokenizer(["ab \né"]), byte_pair_tokenizer(["ab ab é\n"], 270)):
        assert text == tokenizer.decode(encode_stream(tokenizer, text).tolist())


def test_vocabularies_are_ranked_by_frequency_then_by_the_alphabet() -> None:
    words = word_tokenizer(["b a, C c b", "d"], 8)

    assert {
        "[PAD]": 0,
        "[UNK]": 1,
        "[BOS]": 2,
        "[EOS]": 3,
        "b": 4,
        "c": 5,
        ",": 6,
        "a": 7,
    } == words.get_vocab()
    assert [4, 7, 6, UNKNOWN] == words.encode("B A, e").ids
    spaced = word_tokenizer(["b a, C b"], 9, lower=False, punctuation=False, least=2)
    assert ["b"] == [word for word in spaced.get_vocab() if not word.startswith("[")]


def test_byte_pairs_of_the_same_text_are_the_same() -> None:
    texts = ["the king and the queen", "then the kingdom came"] * 3

    assert byte_pair_tokenizer(texts, 290).to_str() == byte_pair_tokenizer(texts, 290).to_str()


def test_n_grams_tell_what_always_follows_and_fall_back_on_shorter_ones() -> None:
    train = torch.tensor([0, 1, 2] * 200)

    assert ngram_bits(train, train, 2, 3) < 0.05
    assert abs(ngram_bits(train, train, 1, 3) - math.log2(3)) < 0.01
    assert abs(unigram_bits(train, train, 3) - math.log2(3)) < 0.01
    # Witten and Bell by hand: after 0 there were 200 ones of one kind; a 2 there is one in 201 of its share.
    unigram = (200 + 3 / 3) / (600 + 3)
    two_after_zero = torch.tensor([0, 2])
    by_hand = -(math.log2(unigram) + math.log2(unigram / 201)) / 2
    assert math.isclose(by_hand, ngram_bits(train, two_after_zero, 2, 3), rel_tol=1e-9)
