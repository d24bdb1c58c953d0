"""Operators' models learn on: probed, above frozen stages whose outputs are kept, and changed at random."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.workers.train.scenarios import quiet
from workers.nets.pretrained import load_lite0
from workers.nets.table import build_net
from workers.train.base import BaseTrainer
from workers.train.configs import FineTuneOptions, OptimizerOptions
from workers.train.data import Ragged
from workers.train.trainers import FineTuneTrainer

_WORDS = 60
#: A BERT small enough for tests, with random weights.
TINY = {
    "vocab_size": _WORDS,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}


def sentences(num_rows: int = 24) -> dict[str, Any]:
    """Rows of tokens, of different length, of two classes with words of their own."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 2, (num_rows,), generator=generator)
    half = _WORDS // 2
    rows = [
        torch.randint(0, half, (int(length),), generator=generator) + half * label
        for label, length in zip(labels, torch.randint(3, 12, (num_rows,), generator=generator), strict=True)
    ]
    return {"ids": Ragged.of([row.tolist() for row in rows]), "labels": labels}


def _pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(0, 256, (24, 3, 32, 32), generator=generator).to(torch.uint8)
    return x, torch.arange(24) % 3


def probe(folder: Path) -> BaseTrainer:
    """What Lite0 makes of the rows is computed again by whoever resumes, in the middle of a step."""
    options = FineTuneOptions(num_classes=3, method="probe", dropout=0.2, accumulate=5)
    config = quiet(folder, batch_size=4)
    return FineTuneTrainer(load_lite0().net, config, _pictures(), _pictures(), options=options)


def frozen_tokens(folder: Path) -> BaseTrainer:
    """Tokens out of frozen stages, padded in batches; each stage has its rate and an average is kept."""
    torch.manual_seed(0)
    options = FineTuneOptions(
        num_classes=2,
        frozen_stages=2,
        backbone_rate=0.5,
        rate_decay=0.5,
        ema=0.9,
        optimizers={"main": OptimizerOptions(name="AdamW")},
    )
    config = quiet(folder, batch_size=5, lr_scheduler_type="cosine", warmup_steps=2)
    return FineTuneTrainer(build_net("sentence_bert", TINY), config, sentences(), options=options)


def mirrored(folder: Path) -> BaseTrainer:
    """Pictures moved and mirrored at random, and batch statistics that follow them."""
    options = FineTuneOptions(
        num_classes=3,
        frozen_stages=8,
        cache=False,
        augment="shift_and_mirror",
        batch_norm="trained",
        backbone_rate=1.0,
    )
    config = quiet(folder, batch_size=6, epoch_num=2, lr=1e-3)
    return FineTuneTrainer(load_lite0().net, config, _pictures(), options=options)


VARIANTS = (probe, frozen_tokens, mirrored)
