"""Small trainers that always come out the same, for tests of resuming.

Each module here is for one trainer: its ``VARIANTS`` are functions of a folder, each named for what it
covers. A new module is found by itself.
"""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.support.training import MakeTrainer
from workers.train._towhee import TrainingConfig


def variants() -> dict[str, tuple[MakeTrainer, ...]]:
    """The variants of every trainer by the trainer's name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").VARIANTS for name in names}


def quiet(folder: Path, **fields: Any) -> TrainingConfig:
    """A config that neither prints nor draws, with 4 epochs of small batches."""
    chosen = {
        "output_dir": str(folder),
        "batch_size": 16,
        "epoch_num": 4,
        "lr": 1e-2,
        "print_steps": 10**9,
        "tensorboard": None,
        "early_stopping": None,
        "model_checkpoint": None,
    }
    return TrainingConfig(**{**chosen, **fields})


def points(rows: int = 160) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of three classes in eight dimensions."""
    generator = torch.Generator().manual_seed(7)
    y = torch.randint(0, 3, (rows,), generator=generator)
    x = torch.randn(rows, 8, generator=generator) + torch.eye(3, 8)[y] * 2
    return x, y


def net() -> nn.Module:
    """Dropout and batch statistics: whatever is not restored shows."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
