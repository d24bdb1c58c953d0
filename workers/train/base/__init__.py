"""The trainer that all others extend."""

from workers.train.base.checkpoint import CheckpointDamaged, CheckpointError, CheckpointMissing
from workers.train.base.guarding import TrainingDiverged
from workers.train.base.networks import MAIN
from workers.train.base.tally import Step
from workers.train.base.trainer import BaseTrainer

__all__ = [
    "MAIN",
    "BaseTrainer",
    "CheckpointDamaged",
    "CheckpointError",
    "CheckpointMissing",
    "Step",
    "TrainingDiverged",
]
