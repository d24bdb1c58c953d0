"""Rows of RNNTrainer."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from workers.train.data.archives import ARCHIVES
from workers.train.evidence import rnn_runs
from workers.train.evidence.rows import Goal, Measured, Row

_SHARED = (
    "workers/train/trainers/rnn/trainer.py",
    "workers/train/trainers/rnn/task.py",
    "workers/train/configs/rnn.py",
    "workers/train/losses/sequences.py",
    "workers/train/data/vocabularies.py",
    "workers/nets/recurrent.py",
    "workers/nets/sequences.py",
)
_LABELLING = (*_SHARED, "workers/train/trainers/rnn/labelling.py")
_SOURCES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "rnn_language_model": (
            *_SHARED,
            "workers/train/trainers/rnn/language_model.py",
            "workers/train/data/streams.py",
        ),
        "rnn_classifier": _LABELLING,
        "rnn_tagger": _LABELLING,
        "rnn_seq2seq": (
            *_SHARED,
            "workers/train/trainers/rnn/seq2seq.py",
            "workers/train/trainers/rnn/edits.py",
            "workers/nets/seq2seq.py",
        ),
    }
)
_THREE = (0, 1, 2)
_PUBLISHED = {
    "bits a character": "2.71 in 3 minutes of a CPU, a Transformer on another Shakespeare (nanoGPT's README)"
}
Run = Callable[[Mapping[str, Any], int], Measured]


def _row(run: Run, data: str, variant: str, config: Mapping[str, Any], **more: Any) -> Row:  # noqa: ANN401  Row's
    name, sha256 = f"rnn {variant} {data}", ARCHIVES[data].sha256
    return Row(name, data, sha256, variant, {"data": data, **config}, run, _SOURCES[config["net"][0]], **more)


def _training(lr: float, batch_size: int = 32) -> dict[str, Any]:
    return {"lr": lr, "batch_size": batch_size, "lr_scheduler_type": "cosine", "warmup_steps": 50}


_LSTM_GRU: tuple[dict[str, str], ...] = ({}, {"cell": "gru"})
_LETTERS: dict[str, Any] = {"embedding_dim": 64, "embedding_std": 1.0, "hidden": 128}


def _stream(data: str, tokens: str, net: dict[str, Any], options: dict[str, Any], **more: Any) -> Row:  # noqa: ANN401
    """Running text; ``more`` is what tokenizer and n-grams are told, and what Row takes."""
    told: dict[str, Any] = {key: more.pop(key) for key in ("size", "orders") if key in more}
    config: dict[str, Any] = {
        "tokens": tokens,
        "net": ("rnn_language_model", net),
        "options": {"grad_clip": 1.0, **options},
        "training": _training(4e-3, 16),
        **told,
    }
    awd = ", AWD dropouts, tied" if net.get("tied") else ""
    return _row(rnn_runs.run_stream, data, f"language model, {tokens}, {_cell(net)}{awd}", config, **more)


def _cell(net: Mapping[str, Any]) -> str:
    return str(net.get("cell", "lstm")).upper()


def _language_models() -> Iterator[Row]:
    goal = {"bits a character": Goal(2.40, at_least=False)}
    letters = {"orders": (3, 5)}
    chunk = {"sequence_length": 32}
    long, short = {**chunk, "max_steps": 16_000}, {**chunk, "max_steps": 2000}
    yield _stream("shakespeare", "characters", _LETTERS, long, **letters, **_line_2(goal, _PUBLISHED))
    yield _stream("shakespeare", "characters", {**_LETTERS, "cell": "gru"}, short, **letters)
    for cell in _LSTM_GRU:
        yield _stream("bbc_news", "characters", {**_LETTERS, **cell}, short, **letters)
    words: dict[str, Any] = {"embedding_dim": 96, "hidden": 96, "tied": True, "embedding_dropout": 0.02}
    words |= {"input_dropout": 0.1, "output_dropout": 0.1, "weight_drop": 0.1}
    awd = {"max_steps": 2500, "sequence_length": 35, "activation_penalty": 0.2, "temporal_penalty": 0.1}
    for data in ("shakespeare", "bbc_news"):
        yield _stream(data, "words", words, awd, size=4000, orders=(2, 3))
        yield _stream(data, "byte pairs", words, awd, size=2000, orders=(2, 3))
    for cell in _LSTM_GRU:
        yield _single_words({"embedding_dim": 32, "embedding_std": 1.0, "hidden": 96, **cell})

    for data in ("mnist", "fashion_mnist"):
        for cell in _LSTM_GRU:
            yield _pixels(data, {"embedding_dim": 16, "embedding_std": 1.0, "hidden": 96, **cell})


def _pixels(data: str, net: dict[str, Any]) -> Row:
    config = {
        "num_train": 8000,
        "num_test": 2000,
        "orders": (3, 8),
        "net": ("rnn_language_model", net),
        "options": {"max_steps": 3000, "sequence_length": 56, "grad_clip": 1.0},
        "training": _training(4e-3, 16),
    }
    return _row(rnn_runs.run_pixels, data, f"language model, pixel by pixel, {_cell(net)}", config)


def _single_words(net: dict[str, Any]) -> Row:
    config = {
        "orders": (2, 3),
        "net": ("rnn_language_model", net),
        "options": {"max_steps": 800},
        "training": _training(5e-3, 64),
    }
    return _row(rnn_runs.run_words, "names", f"language model, one name at a time, {_cell(net)}", config)


def _line_2(goals: Mapping[str, Goal], published: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {"goals": goals, "seeds": _THREE, "published": published or {}}


_READER = {
    "embedding_dim": 64,
    "hidden": 64,
    "bidirectional": True,
    "input_dropout": 0.3,
    "output_dropout": 0.3,
}


_SPELLER = {"embedding_dim": 32, "embedding_std": 1.0, "hidden": 64, "bidirectional": True}


def _texts(data: str, cell: Mapping[str, Any], *, steps: int, most: int, **more: Any) -> Row:  # noqa: ANN401
    letters = data == "names"
    net = {**(_SPELLER if letters else _READER), **cell}
    config = {
        "tokens": "characters" if letters else "words",
        "size": 8000,
        "most": most,
        "net": ("rnn_classifier", net),
        "options": {
            "task": "classifier",
            "max_steps": steps,
            "grad_clip": 1.0,
            "word_dropout": 0.0 if letters else 0.3,
        },
        "training": _training(3e-3),
    }
    return _row(rnn_runs.run_texts, data, f"classifier, bidirectional {_cell(net)}", config, **more)


def _images(data: str, cell: Mapping[str, Any]) -> Row:
    net = {"hidden": 96, "pooling": "concat", **cell}
    config = {
        "num_train": 8000,
        "num_test": 2000,
        "net": ("rnn_classifier", net),
        "options": {"task": "classifier", "max_steps": 1000, "grad_clip": 1.0},
        "training": _training(3e-3, 64),
    }
    return _row(rnn_runs.run_images, data, f"classifier of rows of pixels, {_cell(net)}", config)


def _classifiers() -> Iterator[Row]:
    goal = _line_2({"accuracy": Goal(0.94, at_least=True)})
    for number, cell in enumerate(_LSTM_GRU):
        yield _texts("bbc_news", cell, steps=600, most=250, **({} if number else goal))
        yield _texts("movie_snippets", cell, steps=600, most=50)
        yield _texts("spam_assassin", cell, steps=300, most=150)
        yield _texts("names", cell, steps=900, most=30)
        for data in ("mnist", "fashion_mnist"):
            yield _images(data, cell)


def _taggers() -> Iterator[Row]:
    goal = _line_2({"accuracy": Goal(0.93, at_least=True)})
    net = {
        "embedding_dim": 64,
        "hidden": 64,
        "bidirectional": True,
        "input_dropout": 0.1,
        "output_dropout": 0.2,
    }
    for number, cell in enumerate(_LSTM_GRU):
        config = {
            "size": 30_000,
            "net": ("rnn_tagger", {**net, **cell}),
            "options": {
                "task": "tagger",
                "max_steps": 900 if number else 2400,
                "grad_clip": 20.0,
                "word_dropout": 0.05,
            },
            "training": _training(5e-3),
        }
        variant = f"tagger, bidirectional {_cell(cell)}"
        yield _row(rnn_runs.run_tagger, "brown", variant, config, **({} if number else goal))
        letters = {
            "num_lines": 20_000,
            "net": ("rnn_tagger", {**_SPELLER, "hidden": 48, **cell}),
            "options": {"task": "tagger", "max_steps": 500, "grad_clip": 20.0},
            "training": _training(5e-3),
        }
        yield _row(
            rnn_runs.run_tagger, "shakespeare", f"tagger of capitals, bidirectional {_cell(cell)}", letters
        )


def _translators() -> Iterator[Row]:
    goal = _line_2({"phoneme error": Goal(0.30, at_least=False)})
    net = {"embedding_dim": 48, "hidden": 64, "bidirectional": True, "target_dim": 48, "decoder_hidden": 128}
    for number, cell in enumerate(_LSTM_GRU):
        config = {
            "net": ("rnn_seq2seq", {**net, "embedding_std": 1.0, **cell}),
            "options": {"task": "seq2seq", "max_steps": 800 if number else 2400, "grad_clip": 10.0},
            "training": _training(4e-3, 64),
        }
        variant = f"sequence to sequence, attention, {_cell(cell)}"
        yield _row(rnn_runs.run_phonemes, "phonemes", variant, config, **({} if number else goal))
        tags = {
            "most": 12,
            "size": 10_000,
            "net": ("rnn_seq2seq", {**net, **cell}),
            "options": {"task": "seq2seq", "max_steps": 500, "grad_clip": 10.0, "most_output": 14},
            "training": _training(4e-3, 64),
        }
        yield _row(rnn_runs.run_tags_as_text, "brown", variant, tags)


def rows() -> Iterator[Row]:
    """Every task with both cells: texts of every kind, and pictures read row by row."""
    yield from _language_models()
    yield from _classifiers()
    yield from _taggers()
    yield from _translators()
