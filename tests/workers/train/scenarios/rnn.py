"""Recurrent networks of every task; streams are broken off with a hidden state in hand."""

from pathlib import Path
from typing import Any

import torch

from tests.workers.train.scenarios import quiet
from workers.nets.table import build_net
from workers.train.base import BaseTrainer
from workers.train.configs import RNNOptions
from workers.train.data import Ragged
from workers.train.trainers import RNNTrainer


def _rows(count: int, *, least: int = 2) -> tuple[Ragged, list[list[int]]]:
    """Rows of 2 to 8 tokens out of 4 to 11."""
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(least, 9, (count,), generator=generator).tolist()
    rows = [torch.randint(4, 12, (length,), generator=generator).tolist() for length in lengths]
    return Ragged.of(rows), rows


def _trainer(folder: Path, net: tuple[str, dict[str, Any]], data: Any, options: RNNOptions) -> BaseTrainer:
    torch.manual_seed(1)
    config = {"vocabulary_size": 12, "embedding_dim": 6, "hidden": 6, **net[1]}
    return RNNTrainer(build_net(net[0], config), quiet(folder, metric=None), data, data, options=options)


def stream_with_awd(folder: Path) -> BaseTrainer:
    """Two layers with every dropout, three batches to a step, the state carried through all of them."""
    net = {"num_layers": 2, "tied": True, "embedding_dropout": 0.1, "input_dropout": 0.2}
    net |= {"hidden_dropout": 0.2, "output_dropout": 0.2, "weight_drop": 0.3}
    options = RNNOptions(
        sequence_length=6, accumulate=3, activation_penalty=1.0, temporal_penalty=1.0, grad_clip=0.5, ema=0.9
    )
    tokens = torch.randint(4, 12, (900,), generator=torch.Generator().manual_seed(5))
    return _trainer(folder, ("rnn_language_model", net), tokens, options)


def stream_of_a_gru(folder: Path) -> BaseTrainer:
    """Evaluations with a state of their own between the batches."""
    tokens = torch.randint(4, 12, (700,), generator=torch.Generator().manual_seed(6))
    options = RNNOptions(sequence_length=7, max_steps=17)
    trainer = _trainer(folder, ("rnn_language_model", {"cell": "gru"}), tokens, options)
    trainer.configs.eval_strategy, trainer.configs.eval_steps = "steps", 3
    return trainer


def rows_of_a_language(folder: Path) -> BaseTrainer:
    data = {"ids": _rows(90, least=3)[0]}
    return _trainer(folder, ("rnn_language_model", {}), data, RNNOptions(label_smoothing=0.1))


def classifier(folder: Path) -> BaseTrainer:
    """Both directions, words dropped by the loader's generator."""
    ids, rows = _rows(100)
    data = {"ids": ids, "label": torch.tensor([sum(row) % 3 for row in rows])}
    net = {"bidirectional": True, "num_classes": 3, "output_dropout": 0.2}
    options = RNNOptions(task="classifier", word_dropout=0.2, accumulate=2)
    return _trainer(folder, ("rnn_classifier", net), data, options)


def tagger(folder: Path) -> BaseTrainer:
    ids, rows = _rows(100)
    data = {"ids": ids, "labels": Ragged.of([[token % 3 for token in row] for row in rows])}
    net = {"cell": "gru", "bidirectional": True, "num_tags": 3, "input_dropout": 0.2}
    return _trainer(folder, ("rnn_tagger", net), data, RNNOptions(task="tagger", grad_clip=1.0))


def seq2seq(folder: Path) -> BaseTrainer:
    """Each row turned round."""
    ids, rows = _rows(100)
    data = {"ids": ids, "target": Ragged.of([[2, *reversed(row), 3] for row in rows])}
    net = {"bidirectional": True, "target_size": 12, "decoder_hidden": 8, "weight_drop": 0.2}
    options = RNNOptions(task="seq2seq", accumulate=2, ema=0.9, most_output=10)
    return _trainer(folder, ("rnn_seq2seq", net), data, options)


VARIANTS = (stream_with_awd, stream_of_a_gru, rows_of_a_language, classifier, tagger, seq2seq)
