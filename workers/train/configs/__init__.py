"""Typed options of the trainers, one module a trainer."""

from workers.train.configs.autoencoder import AutoencoderOptions
from workers.train.configs.base import (
    CheckpointOptions,
    OptimizerOptions,
    Options,
    ScheduleOptions,
    TrainerOptions,
    TrainingFields,
)

__all__ = [
    "AutoencoderOptions",
    "CheckpointOptions",
    "OptimizerOptions",
    "Options",
    "ScheduleOptions",
    "TrainerOptions",
    "TrainingFields",
]
