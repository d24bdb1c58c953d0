"""The base trainer with whatever options change how training goes on."""

import random
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from tests.workers.train.scenarios import net, points, quiet
from workers.train.base import BaseTrainer
from workers.train.configs import CheckpointOptions, OptimizerOptions, TrainerOptions


def plain(folder: Path) -> BaseTrainer:
    x, y = points()
    return BaseTrainer(net(), quiet(folder), (x, y), points(48))


def everything(folder: Path) -> BaseTrainer:
    """Accumulation, clipping, an average, a schedule with warm-up, evaluations and checkpoints by step."""
    options = TrainerOptions(
        accumulate=3,
        grad_clip=0.5,
        ema=0.9,
        max_steps=14,
        optimizers={"main": OptimizerOptions(name="AdamW", lr=0.01)},
        checkpoints=CheckpointOptions(every_steps=2, keep=2),
    )
    configs = quiet(folder, lr_scheduler_type="cosine", warmup_steps=3, eval_strategy="steps", eval_steps=4)
    return BaseTrainer(net(), configs, points(), points(48), options=options)


def torch_schedule(folder: Path) -> BaseTrainer:
    """SGD with momentum under a schedule of torch's, in bfloat16."""
    configs = quiet(
        folder,
        optimizer={"name_": "SGD", "momentum": 0.9},
        lr_scheduler_type={"name_": "StepLR", "step_size": 7, "gamma": 0.5},
    )
    return BaseTrainer(net(), configs, points(), options=TrainerOptions(precision="bfloat16"))


class Noisy(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Points that each reading moves, by Python's generator and by NumPy's."""

    def __len__(self) -> int:
        return 96

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = points(96)
        noise = random.gauss(0, 0.1) + np.random.normal(0, 0.1)  # noqa: NPY002  what datasets use
        return x[row] + noise, y[row]


def half_precision(folder: Path) -> BaseTrainer:
    """A scaler of losses that grows, batches that come out differently each time, and early stopping."""
    stopping = {"monitor": "eval_epoch_loss", "patience": 2, "mode": "min", "min_delta": 0.05}
    configs = quiet(folder, early_stopping=stopping, epoch_num=6)
    options = TrainerOptions(precision="float16", accumulate=2, grad_clip=1.0)
    return BaseTrainer(net(), configs, Noisy(), points(48), options=options)


VARIANTS = (plain, everything, torch_schedule, half_precision)
