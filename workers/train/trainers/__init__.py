"""The trainers, each a subclass of Towhee's Trainer, and Towhee's TrainingConfig, which they all take."""

from workers.train._towhee import TrainingConfig
from workers.train.trainers.autoencoder import AutoencoderTrainer
from workers.train.trainers.fine_tune import FineTuneTrainer
from workers.train.trainers.gan import GANTrainer
from workers.train.trainers.rnn import RNNTrainer
from workers.train.trainers.semi_supervised import SemiSupervisedTrainer
from workers.train.trainers.semi_supervised_gan import SemiSupervisedGANTrainer

__all__ = [
    "AutoencoderTrainer",
    "FineTuneTrainer",
    "GANTrainer",
    "RNNTrainer",
    "SemiSupervisedGANTrainer",
    "SemiSupervisedTrainer",
    "TrainingConfig",
]
