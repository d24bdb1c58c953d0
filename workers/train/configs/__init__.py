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
from workers.train.configs.fine_tune import FineTuneOptions
from workers.train.configs.gan import GANOptions
from workers.train.configs.rnn import RNNOptions
from workers.train.configs.semi_supervised import SemiSupervisedOptions
from workers.train.configs.semi_supervised_gan import SemiSupervisedGANOptions

__all__ = [
    "AutoencoderOptions",
    "CheckpointOptions",
    "FineTuneOptions",
    "GANOptions",
    "OptimizerOptions",
    "Options",
    "RNNOptions",
    "ScheduleOptions",
    "SemiSupervisedGANOptions",
    "SemiSupervisedOptions",
    "TrainerOptions",
    "TrainingFields",
]
