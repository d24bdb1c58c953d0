"""What RNNTrainer's rows run: one function a task."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from sklearn.feature_extraction.text import CountVectorizer  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from tokenizers import Tokenizer
from torch import Tensor

from workers.nets.contracts import TokensInput
from workers.nets.table import build_net
from workers.train.configs import RNNOptions
from workers.train.data import (
    Ragged,
    TaggedSet,
    load_brown,
    load_images,
    load_phonemes,
    load_shakespeare,
    load_texts,
    unit_range,
)
from workers.train.data.vocabularies import (
    END,
    SPECIALS,
    START,
    byte_pair_tokenizer,
    character_tokenizer,
    encode_rows,
    encode_stream,
    word_tokenizer,
)
from workers.train.evidence.counting import (
    letter_by_letter,
    most_frequent,
    ngram_bits,
    share_right,
    unigram_bits,
)
from workers.train.evidence.measure import linear_probe, majority, pca, quiet_config, rows_of, timed_training
from workers.train.evidence.rows import Measured
from workers.train.trainers import RNNTrainer
from workers.train.trainers.rnn.edits import edit_distance

Config = Mapping[str, Any]


def run_stream(config: Config, seed: int) -> Measured:
    """A language model of running text; bits and perplexity of the text kept for tests."""
    train, test = _running_text(config["data"])
    tokenizer = _TOKENIZERS[config["tokens"]]([train], config)
    train_N, test_N = encode_stream(tokenizer, train), encode_stream(tokenizer, test)
    size = tokenizer.get_vocab_size()
    trainer = _made(config, {"vocabulary_size": size}, (train_N, test_N), seed, tokenizer)
    seconds, logs = timed_training(trainer), trainer.evaluate()
    told = {"unigram": unigram_bits(train_N, test_N, size)}
    told.update({f"{order}-gram": ngram_bits(train_N, test_N, order, size) for order in config["orders"]})
    if config["tokens"] == "characters":
        return Measured(
            {"bits a character": logs["eval_bits_per_character"]},
            seconds,
            trainer.global_step,
            {"bits a character": told},
        )
    metrics = {"perplexity": logs["eval_perplexity"]}
    baselines = {"perplexity": {name: 2**bits for name, bits in told.items()}}
    if "eval_bits_per_character" in logs:
        metrics["bits a character"] = logs["eval_bits_per_character"]
        by_token = logs["eval_bits_per_token"] / logs["eval_bits_per_character"]
        baselines["bits a character"] = {name: bits / by_token for name, bits in told.items()}
    return Measured(metrics, seconds, trainer.global_step, baselines)


def run_pixels(config: Config, seed: int) -> Measured:
    """A language model of pictures: pixels of four greys, row by row, one picture after the other."""
    found = load_images(config["data"]).part(config["num_train"], config["num_test"])
    train_N, test_N = (_pixels(unit_range(part)) for part in (found.train_x, found.test_x))
    size = len(SPECIALS) + _NUM_GREYS
    trainer = _made(config, {"vocabulary_size": size}, (train_N, test_N), seed)
    seconds, logs = timed_training(trainer), trainer.evaluate()
    told = {f"{order}-gram": ngram_bits(train_N, test_N, order, size) for order in config["orders"]}
    told["each pixel's place alone"] = _bits_by_place(train_N, test_N, size)
    metrics = {"bits a pixel": logs["eval_bits_per_token"]}
    return Measured(metrics, seconds, trainer.global_step, {"bits a pixel": told})


_NUM_GREYS = 4


def _pixels(x_BCHW: Tensor) -> Tensor:
    """Of half the side; a start token before each picture."""
    small = torch.nn.functional.avg_pool2d(x_BCHW, 2).flatten(1)
    greys = (small * _NUM_GREYS).long().clamp(max=_NUM_GREYS - 1) + len(SPECIALS)
    return torch.cat([torch.full((len(greys), 1), START), greys], 1).flatten()


def _bits_by_place(train_N: Tensor, test_N: Tensor, size: int) -> float:
    places = int((train_N[1:] == START).nonzero()[0]) + 1
    counts = torch.nn.functional.one_hot(train_N.view(-1, places), size).sum(0) + 1.0
    shares = (counts / counts.sum(1, keepdim=True)).log2()
    return -float(shares.expand(len(test_N) // places, -1, -1).gather(2, test_N.view(-1, places, 1)).mean())


def run_words(config: Config, seed: int) -> Measured:
    """A language model of single words, each from its start to its end."""
    found = load_texts(config["data"])
    train, test = ([text for text, _ in part] for part in (found.train, found.test))
    tokenizer = character_tokenizer(train)
    size = tokenizer.get_vocab_size()
    rows = [encode_rows(tokenizer, part, ends=True) for part in (train, test)]
    data = tuple({"ids": part} for part in rows)
    trainer = _made(config, {"vocabulary_size": size}, data, seed, tokenizer)
    seconds, logs = timed_training(trainer), trainer.evaluate()
    told = {
        f"{order}-gram": ngram_bits(rows[0].values, rows[1].values, order, size) for order in config["orders"]
    }
    # The start token is told for free by the nets, and by n-grams nearly so: an end comes before it.
    share = len(rows[1].values) / (len(rows[1].values) - len(rows[1]))
    baselines = {"bits a token": {name: bits * share for name, bits in told.items()}}
    return Measured({"bits a token": logs["eval_bits_per_token"]}, seconds, trainer.global_step, baselines)


def run_texts(config: Config, seed: int) -> Measured:
    """A classifier of texts."""
    found = load_texts(config["data"])
    train, test = ([text for text, _ in part] for part in (found.train, found.test))
    tokenizer = _TOKENIZERS[config["tokens"]](train, config)
    labels = [torch.tensor([label for _, label in part]) for part in (found.train, found.test)]
    data = tuple(
        {"ids": encode_rows(tokenizer, part, most=config["most"]), "label": label}
        for part, label in zip((train, test), labels, strict=True)
    )
    sizes = {"vocabulary_size": tokenizer.get_vocab_size(), "num_classes": len(found.classes)}
    trainer = _made(config, sizes, data, seed, tokenizer)
    seconds, accuracy = timed_training(trainer), _metric(trainer, "Accuracy")
    by_letters = config["tokens"] == "characters"
    bags = CountVectorizer(analyzer="char_wb", ngram_range=(1, 3)) if by_letters else CountVectorizer()
    probe = LogisticRegression(max_iter=300).fit(bags.fit_transform(train), labels[0].numpy())
    right = float(probe.score(bags.transform(test), labels[1].numpy()))
    name = "linear probe, letters by 1 to 3" if by_letters else "linear probe, bag of words"
    baselines = {"accuracy": {name: right, "majority": majority(labels[1])}}
    metrics = {"accuracy": accuracy, "macro F1": _metric(trainer, "F1")}
    return Measured(metrics, seconds, trainer.global_step, baselines)


def run_images(config: Config, seed: int) -> Measured:
    """A classifier of pictures that reads them row by row."""
    found = load_images(config["data"]).part(config["num_train"], config["num_test"])
    train_x, test_x = unit_range(found.train_x), unit_range(found.test_x)
    data = (train_x, found.train_y), (test_x, found.test_y)
    sizes = {"row_size": train_x.shape[1] * train_x.shape[3], "num_classes": 10}
    trainer = _made(config, sizes, data, seed)
    seconds = timed_training(trainer)
    pca_train, pca_test, _ = pca(rows_of(train_x), rows_of(test_x), 32)
    probe = linear_probe((pca_train, found.train_y), (pca_test, found.test_y))
    baselines = {"accuracy": {"linear probe, PCA-32": probe, "majority": majority(found.test_y)}}
    return Measured({"accuracy": _metric(trainer, "Accuracy")}, seconds, trainer.global_step, baselines)


def run_tagger(config: Config, seed: int) -> Measured:
    """A tag for each word, or for each character."""
    found = load_brown() if config["data"] == "brown" else capitals(config["num_lines"])
    texts = [[" ".join(words) for words, _ in part] for part in (found.train, found.test)]
    if config["data"] == "brown":
        tokenizer = word_tokenizer(texts[0], config["size"], lower=False, punctuation=False, least=2)
    else:
        texts = [["".join(words) for words, _ in part] for part in (found.train, found.test)]
        tokenizer = character_tokenizer(texts[0])
    data = tuple(
        {"ids": encode_rows(tokenizer, part), "labels": Ragged.of([tags for _, tags in rows])}
        for part, rows in zip(texts, (found.train, found.test), strict=True)
    )
    sizes = {"vocabulary_size": tokenizer.get_vocab_size(), "num_tags": len(found.tags)}
    trainer = _made(config, sizes, data, seed, tokenizer)
    seconds, accuracy = timed_training(trainer), _metric(trainer, "Accuracy")
    table, other = most_frequent(found.train)
    every = torch.tensor([tag for _, tags in found.test for tag in tags])
    known = {"most frequent tag of each": share_right(table, other, found.test), "majority": majority(every)}
    metrics = {"accuracy": accuracy, "macro F1": _metric(trainer, "F1")}
    return Measured(metrics, seconds, trainer.global_step, {"accuracy": known})


def capitals(num_lines: int) -> TaggedSet:
    """Lines of Shakespeare in small letters, with which of them are capital (1) as tags."""
    corpus = load_shakespeare()
    parts = []
    for text, most in ((corpus.train, num_lines), (corpus.test, num_lines // 8)):
        lines = [line for line in text.splitlines() if line.strip()][:most]
        parts.append([(list(line.lower()), [int(each.isupper()) for each in line]) for line in lines])
    return TaggedSet("capitals", corpus.sha256, ("small", "capital"), *parts)


def run_phonemes(config: Config, seed: int) -> Measured:
    """Letters into phonemes."""
    found = load_phonemes()
    letters = character_tokenizer(word for word, _ in found.train)
    symbols = [*SPECIALS, *sorted({symbol for _, spoken in found.train for symbol in spoken})]
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    pairs = [
        ([word for word, _ in part], [[numbers[each] for each in spoken] for _, spoken in part])
        for part in (found.train, found.test)
    ]
    table = letter_by_letter(found.train)
    guesses = [[numbers[table[letter]] for letter in word] for word, _ in found.test]
    baselines = {"phoneme error": {"letter by letter": _error_rate(guesses, pairs[1][1])}}
    return _translated(config, seed, (letters, len(symbols), pairs), baselines, "phoneme error")


def run_tags_as_text(config: Config, seed: int) -> Measured:
    """Short sentences into their tags, as if those were another language."""
    found = load_brown()
    short = [
        [(words, tags) for words, tags in part if len(words) <= config["most"]]
        for part in (found.train, found.test)
    ]
    words = word_tokenizer(
        (" ".join(words) for words, _ in short[0]), config["size"], lower=False, punctuation=False, least=2
    )
    pairs = [
        ([" ".join(words) for words, _ in part], [[tag + len(SPECIALS) for tag in tags] for _, tags in part])
        for part in short
    ]
    table, other = most_frequent(short[0])
    guesses = [[table.get(word, other) + len(SPECIALS) for word in sentence] for sentence, _ in short[1]]
    baselines = {"tag error": {"most frequent tag of each": _error_rate(guesses, pairs[1][1])}}
    return _translated(config, seed, (words, len(found.tags) + len(SPECIALS), pairs), baselines, "tag error")


def _translated(
    config: Config,
    seed: int,
    given: tuple[Tokenizer, int, Sequence[tuple[list[str], list[list[int]]]]],
    baselines: Mapping[str, Mapping[str, float]],
    name: str,
) -> Measured:
    tokenizer, num_symbols, pairs = given
    data = tuple(
        {
            "ids": encode_rows(tokenizer, sources),
            "target": Ragged.of([[START, *target, END] for target in targets]),
        }
        for sources, targets in pairs
    )
    sizes = {"vocabulary_size": tokenizer.get_vocab_size(), "target_size": num_symbols}
    trainer = _made(config, sizes, data, seed, tokenizer)
    seconds, logs = timed_training(trainer), trainer.evaluate()
    metrics = {name: logs["eval_error_rate"], "sequences with an error": logs["eval_sequence_error"]}
    return Measured(metrics, seconds, trainer.global_step, baselines)


def _error_rate(guesses: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> float:
    padded, lengths = zip(*(_padded(rows) for rows in (guesses, targets)), strict=True)
    edits = edit_distance(padded[0], lengths[0], padded[1], lengths[1])
    return float(edits.sum()) / float(lengths[1].sum())


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    return Ragged.of(rows).pad(torch.arange(len(rows)), 0)


def _made(
    config: Config,
    sizes: Mapping[str, int],
    data: Sequence[Any],
    seed: int,
    tokenizer: Tokenizer | None = None,
) -> RNNTrainer:
    torch.manual_seed(seed)
    name, net = config["net"]
    trainer = RNNTrainer(
        build_net(name, {**net, **sizes}),
        quiet_config(seed=seed, val_batch_size=64, **config["training"]),
        data[0],
        data[1],
        options=RNNOptions(**config["options"]),
    )
    if tokenizer is not None:
        trainer.describe_input(TokensInput(max_length=1024), tokenizer)
    return trainer


def _metric(trainer: RNNTrainer, name: str) -> float:
    """A metric of the test data; training itself keeps none."""
    trainer.configs.metric = name
    value = float(trainer.evaluate()["eval_epoch_metric"])
    if math.isnan(value):
        raise ValueError(f"{name} was not measured")
    return value


def _running_text(data: str) -> tuple[str, str]:
    if data == "shakespeare":
        corpus = load_shakespeare()
        return corpus.train, corpus.test
    found = load_texts(data)
    train, test = ("\n".join(text for text, _ in part) for part in (found.train, found.test))
    return train, test


_TOKENIZERS: Mapping[str, Callable[[Sequence[str], Config], Tokenizer]] = MappingProxyType(
    {
        "characters": lambda texts, _: character_tokenizer(texts),
        "words": lambda texts, config: word_tokenizer(texts, config["size"]),
        "byte pairs": lambda texts, config: byte_pair_tokenizer(texts, config["size"]),
    }
)
