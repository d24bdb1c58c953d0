"""Classifiers of few labels learn from rows without labels, and are exported."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.workers.train.scenarios import quiet
from workers.nets.manifest import load_artifact
from workers.nets.table import build_net
from workers.train.configs import SemiSupervisedOptions
from workers.train.data import hide_labels, load_images, unit_range
from workers.train.export import export
from workers.train.trainers import SemiSupervisedTrainer

#: Labels of each class.
FEW = 10


def mnist_trainer(folder: Path, method: str, **options: Any) -> SemiSupervisedTrainer:
    """2,000 digits, of which 100 have a label."""
    digits = load_images("mnist").part(2000, 1000)
    torch.manual_seed(0)
    return SemiSupervisedTrainer(
        build_net("conv_classifier", {"width": 8}),
        quiet(folder, batch_size=20, lr=5e-3, lr_scheduler_type="cosine", eval_strategy="no"),
        (unit_range(digits.train_x), hide_labels(digits.train_y, FEW)),
        (unit_range(digits.test_x), digits.test_y),
        options=SemiSupervisedOptions(method=method, **options),  # type: ignore[arg-type]
    )


def accuracy(trainer: SemiSupervisedTrainer) -> float:
    trainer.train()
    return float(trainer.evaluate()["eval_epoch_metric"])


def test_fixmatch_learns_digits_better_than_labels_alone_and_is_exported(tmp_path: Path) -> None:
    test_x = load_images("mnist").part(2000, 1000).test_x[:5]
    alone = mnist_trainer(tmp_path / "alone", "supervised", max_steps=250)
    trainer = mnist_trainer(tmp_path / "run", "fixmatch", max_steps=250, threshold=0.7)

    assert accuracy(trainer) > accuracy(alone) + 0.04

    export(trainer, tmp_path / "artifact")
    rebuilt = load_artifact(tmp_path / "artifact")
    with trainer.averaged_weights(), torch.no_grad():
        expected = trainer.model.eval().encode(unit_range(test_x)).numpy()  # type: ignore[operator]
    np.testing.assert_allclose(expected, rebuilt.embed(list(test_x)), atol=1e-6)
