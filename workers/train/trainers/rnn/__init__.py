"""Recurrent networks: language models, classifiers, taggers, sequence to sequence."""

from workers.train.trainers.rnn.trainer import RNNTrainer

__all__ = ["RNNTrainer"]
