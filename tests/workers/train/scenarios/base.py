"""The base trainer with whatever options change how training goes on."""

from pathlib import Path

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


VARIANTS = (plain, everything, torch_schedule)
