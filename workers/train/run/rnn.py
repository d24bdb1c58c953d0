"""Recurrent nets out of a training's parameters: which task, which words, which net.

Legend: N rows.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from bus.messages.training import RnnParameters
from workers.nets.contracts import TokensInput
from workers.nets.table import build_net
from workers.train.configs import RNNOptions
from workers.train.data.loaders import Ragged
from workers.train.data.vocabularies import (
    END,
    SPECIALS,
    START,
    UNKNOWN,
    encode_rows,
    encode_stream,
    word_tokenizer,
)
from workers.train.run.hosted import RNNTrainer
from workers.train.run.order import TEST, TRAIN, Order
from workers.train.run.parents import take_weights
from workers.train.run.problems import CannotTrain
from workers.train.run.rows import drawn, ensure_classes, has_labels, labelled_rows
from workers.train.run.settings import (
    Rows,
    common_options,
    ensure_batches,
    num_test_rows,
    training_config,
)
from workers.train.run.tokens import Words, are_short, are_single_words, are_spelt, ensure_texts, words_of

#: Tokens of a text that a classifier, an encoder and either side of a pair are given.
_MOST_TOKENS, _MOST_ENCODED, _MOST_OUTPUT = 250, 512, 256
#: What is looked at of the rows for testing; decoding takes its time.
_MOST_TEST, _MOST_TEST_TOKENS, _MOST_DECODED = 5000, 100_000, 500
#: Streams that test texts are read in at most, and tokens of each at least, so that its state is warm.
_MOST_STREAMS, _LEAST_STREAM = 64, 500
#: A word has to be seen so often in training to be told from unknown ones by a tagger.
_LEAST_SEEN = 2


class _Data(NamedTuple):
    """What is trained on: rows or one stream, how many there are, the net, and what its tokens are."""

    train: Any
    test: Any
    rows: Rows
    num_test: int
    net: dict[str, Any]
    words: Words
    options: dict[str, Any]
    eval_batch: int = 64


def task_of(order: Order, parameters: RnnParameters) -> str:
    """The task that is asked for or that the data is for.

    Raises:
        CannotTrain: the data is for another.
    """
    kind = order.ensure_kind("A recurrent net", *_NATURAL)
    natural = _NATURAL[kind] if kind != "texts" or has_labels(order) else "language_model"
    if parameters.task == "auto":
        return natural
    if parameters.task not in {natural, "language_model" if kind == "texts" else natural}:
        raise CannotTrain(
            f"{kind} of {order.num_classes} classes are not what a {_said(parameters.task)} learns from",
            f"Leave task at auto, which is {_said(natural)} here.",
        )
    return parameters.task


_NATURAL: Mapping[str, str] = MappingProxyType(
    {"texts": "classifier", "tagged": "tagger", "pairs": "seq2seq"}
)


def build_rnn(order: Order, parameters: RnnParameters) -> RNNTrainer:
    """The trainer.

    Raises:
        CannotTrain, InvalidConfig: data and parameters don't fit each other.
    """
    task = task_of(order, parameters)
    data = _TASKS[task](order, parameters)
    net = build_net(f"rnn_{task}", {**_layers(parameters, task, data.words), **data.net})
    if order.parent is not None:
        take_weights(net, net, order.parent)
    most = _MOST_ENCODED if task == "language_model" else _MOST_TOKENS
    options = RNNOptions(
        **common_options(order, data.rows),
        task=task,  # type: ignore[arg-type]  # one of its names
        most_input=most,
        **data.options,
    )
    trainer = RNNTrainer(
        net,
        training_config(
            order,
            data.rows,
            num_test=data.num_test,
            metric="Accuracy" if task in {"classifier", "tagger"} else None,
            eval_batch=data.eval_batch,
        ),
        data.train,
        data.test if data.num_test else None,
        options=options,
        report=order.report,
    )
    trainer.describe_input(TokensInput(max_length=most), data.words.tokenizer)
    return trainer


def _layers(parameters: RnnParameters, task: str, words: Words) -> dict[str, Any]:
    rate = parameters.dropout
    return {
        "vocabulary_size": words.tokenizer.get_vocab_size(),
        "cell": parameters.cell,
        "hidden": parameters.hidden,
        "num_layers": parameters.num_layers,
        "embedding_dim": parameters.embedding_dim,
        "embedding_std": words.embedding_std,
        "bidirectional": task != "language_model",
        "input_dropout": rate,
        "output_dropout": rate,
        "hidden_dropout": rate if parameters.num_layers > 1 else 0.0,
    }


def _language_model(order: Order, parameters: RnnParameters) -> _Data:
    texts, length = order.texts(TRAIN), parameters.sequence_length
    between = "" if order.facts.is_running_text else "\n"
    # The end of each text is something to be learnt, too.
    words = words_of(
        order,
        [text + between for text in texts],
        tokens=parameters.tokens,
        size=parameters.vocabulary_size,
        spelt=are_spelt,
    )
    tokens_N = encode_stream(words.tokenizer, between.join(texts))
    per_batch = parameters.batch_size * length
    num_batches = (len(tokens_N) - length) // parameters.batch_size // length
    if num_batches < 1:
        raise CannotTrain(
            f"the texts for training are {len(tokens_N):,} tokens, and a batch takes {per_batch + length:,}",
            "Say a smaller batch_size or sequence_length, or add texts.",
        )
    rows = Rows(num_batches * per_batch, per_batch)
    test_N = encode_stream(words.tokenizer, between.join(order.texts(TEST)))
    test_N = test_N[: num_test_rows(order, rows, len(test_N), _MOST_TEST_TOKENS)]
    streams = max(1, min(_MOST_STREAMS, len(test_N) // _LEAST_STREAM))
    samples = {
        "num_samples": 1,
        "sample_length": parameters.sample_length,
        "prompt": parameters.prompt,
        "temperature": parameters.temperature,
        "top_p": parameters.top_p,
        "sequence_length": length,
    }
    # With one token there is nothing to be told from those before it.
    num_test = len(test_N) if len(test_N) > 1 else 0
    return _Data(tokens_N, test_N, rows, num_test, {}, words, samples, streams)


def _classifier(order: Order, parameters: RnnParameters) -> _Data:
    labels, test_labels = order.labels(TRAIN), order.labels(TEST)
    ensure_classes(order, labels, "A classifier")
    texts, test_texts = order.texts(TRAIN), order.texts(TEST)
    kept, test_kept = labelled_rows(labels), labelled_rows(test_labels)
    ensure_batches(len(kept), parameters.batch_size, what="labelled texts")
    rows = Rows(len(kept), parameters.batch_size)
    chosen = test_kept[drawn(order, len(test_kept), num_test_rows(order, rows, len(test_kept), _MOST_TEST))]
    texts = [texts[row] for row in kept.tolist()]
    words = words_of(order, texts, tokens=parameters.tokens, size=parameters.vocabulary_size, spelt=are_short)
    test = _encoded(words.tokenizer, [test_texts[row] for row in chosen.tolist()])
    return _Data(
        {"ids": _encoded(words.tokenizer, texts), "label": labels[kept]},
        {"ids": test, "label": test_labels[chosen]},
        rows,
        len(chosen),
        {"num_classes": order.num_classes},
        words,
        # A letter that is left out changes a word more than a word that is left out changes a text.
        {"word_dropout": 0.0 if words.by == "characters" else parameters.dropout},
    )


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Ragged:
    return encode_rows(tokenizer, texts, most=_MOST_TOKENS)


def _tagger(order: Order, parameters: RnnParameters) -> _Data:
    if parameters.tokens not in {"auto", "words"}:
        raise CannotTrain("a tagger has one tag for each word", "Leave tokens at auto.")
    found = order.prepared.tagged(TRAIN)
    test = order.prepared.tagged(TEST) if order.num_rows(TEST) else []
    ensure_texts([" ".join(words) for words, _ in found])
    ensure_batches(len(found), parameters.batch_size, what="sentences")
    tags = order.facts.classes
    if len(tags) < 2:  # noqa: PLR2004
        raise CannotTrain("a tagger has nothing to tell apart: there is one tag", "Add rows with others.")
    rows = Rows(len(found), parameters.batch_size)
    test = [test[row] for row in drawn(order, len(test), num_test_rows(order, rows, len(test), _MOST_TEST))]
    tokenizer = order.tokenizer_of_parent() or word_tokenizer(
        (" ".join(words) for words, _ in found),
        parameters.vocabulary_size,
        lower=False,
        punctuation=False,
        least=_LEAST_SEEN if len(found) > parameters.vocabulary_size else 1,
    )
    numbers = {tag: number for number, tag in enumerate(tags)}
    options = {"word_dropout": min(parameters.dropout, 0.05)}
    return _Data(
        _tagged(tokenizer, found, numbers),
        _tagged(tokenizer, test, numbers),
        rows,
        len(test),
        {"num_tags": len(tags)},
        Words(tokenizer),
        options,
    )


def _tagged(
    tokenizer: Tokenizer, sentences: Sequence[tuple[list[str], list[str]]], numbers: Mapping[str, int]
) -> dict[str, Ragged]:
    # Word by word: one with a space within is still one token with one tag.
    ids = [[_number(tokenizer, word) for word in words][:_MOST_TOKENS] for words, _ in sentences]
    labels = [[numbers[tag] for tag in tags][:_MOST_TOKENS] for _, tags in sentences]
    return {"ids": Ragged.of(ids), "labels": Ragged.of(labels)}


def _number(tokenizer: Tokenizer, word: str) -> int:
    found: int | None = tokenizer.token_to_id(word)
    return UNKNOWN if found is None else found


def _seq2seq(order: Order, parameters: RnnParameters) -> _Data:
    pairs = order.prepared.pairs(TRAIN)
    test = order.prepared.pairs(TEST) if order.num_rows(TEST) else []
    ensure_batches(len(pairs), parameters.batch_size, what="pairs")
    rows = Rows(len(pairs), parameters.batch_size)
    kept = drawn(order, len(test), num_test_rows(order, rows, len(test), _MOST_DECODED))
    test = [test[row] for row in kept.tolist()]
    size, tokens = parameters.vocabulary_size, parameters.tokens
    words = words_of(order, [source for source, _ in pairs], tokens=tokens, size=size, spelt=are_single_words)
    # What comes out is always of its own words, which a parent's net can't know either.
    own = order._replace(parent=None)
    targets = [target for _, target in pairs]
    target_words = words_of(own, targets, tokens=tokens, size=size, spelt=are_single_words).tokenizer
    train = _paired(words.tokenizer, target_words, pairs)
    longest = int(train["target"].offsets.diff().max())
    net = {
        "target_size": max(len(SPECIALS), target_words.get_vocab_size()),
        "target_dim": parameters.embedding_dim,
        "decoder_hidden": parameters.hidden,
    }
    return _Data(
        train,
        _paired(words.tokenizer, target_words, test),
        rows,
        len(test),
        net,
        words,
        {"most_output": longest},
    )


def _paired(sources: Tokenizer, targets: Tokenizer, pairs: Sequence[tuple[str, str]]) -> dict[str, Ragged]:
    encoded = targets.encode_batch([target for _, target in pairs])
    return {
        "ids": _encoded(sources, [source for source, _ in pairs]),
        "target": Ragged.of([[START, *row.ids[:_MOST_OUTPUT], END] for row in encoded]),
    }


def _said(task: str) -> str:
    return {"language_model": "language model", "seq2seq": "sequence to sequence net"}.get(task, task)


_TASKS: Mapping[str, Callable[[Order, RnnParameters], _Data]] = MappingProxyType(
    {
        "language_model": _language_model,
        "classifier": _classifier,
        "tagger": _tagger,
        "seq2seq": _seq2seq,
    }
)
