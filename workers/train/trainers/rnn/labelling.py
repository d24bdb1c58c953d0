"""A label for a whole sequence, or for each of its tokens.

Legend: B batch, L length, K classes.
"""

from typing import ClassVar

from torch import nn

from workers.nets.sequences import SequenceClassifier, Tagger
from workers.train.base import Step
from workers.train.base.batches import apply_model, split_batch
from workers.train.data.loaders import Batch
from workers.train.trainers.rnn.task import Task, masked


class Classifying(Task):
    """Batches are a dict of ``ids``, ``ids_lengths`` and ``label``, or a pair of pictures and labels."""

    net_type: ClassVar = SequenceClassifier

    def step(self, model: nn.Module, batch: Batch) -> Step:
        """One label a row."""
        inputs, labels_B = split_batch(batch)
        logits_BK = apply_model(model, inputs)
        return Step(self._loss_of(model, logits_BK, labels_B), logits_BK, labels_B, rows=len(labels_B))


class Tagging(Task):
    """Batches are a dict of ``ids``, ``labels`` and, where rows differ in length, ``ids_lengths``."""

    net_type: ClassVar = Tagger

    def step(self, model: nn.Module, batch: Batch) -> Step:
        """One tag a token; what the loss shows is summed over a row."""
        ids_BL, lengths_B = batch["ids"], batch.get("ids_lengths")
        logits_BLK = model(ids=ids_BL, ids_lengths=lengths_B)
        targets_BL = masked(batch["labels"], lengths_B)
        loss = self._loss_of(model, logits_BLK, targets_BL)
        return Step(loss, logits_BLK.transpose(1, 2), targets_BL, rows=len(ids_BL))
