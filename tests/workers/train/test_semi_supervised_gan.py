"""A discriminator of K classes learns from few labels, and a generator matches its features."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.train.scenarios import quiet
from workers.nets.manifest import load_artifact
from workers.nets.table import build_net
from workers.nets.validation import InvalidConfig
from workers.train.configs import SemiSupervisedGANOptions
from workers.train.data import hide_labels, load_images, unit_range
from workers.train.export import export
from workers.train.losses.salimans import MATCHINGS, generated_loss, real_loss
from workers.train.trainers import SemiSupervisedGANTrainer

SMALL = {"generator": (100, 100), "discriminator": (200, 100, 100), "latent_dim": 30}


def digits_trainer(folder: Path, **options: Any) -> SemiSupervisedGANTrainer:
    """Five labels of each digit, at 8 x 8."""
    digits = load_images("digits")
    torch.manual_seed(0)
    return SemiSupervisedGANTrainer(
        build_net("mlp_gan", {"shape": (1, 8, 8), "num_outputs": 10, **SMALL}),
        quiet(folder, batch_size=50, lr=3e-3, lr_scheduler_type="linear", eval_strategy="no"),
        (unit_range(digits.train_x), hide_labels(digits.train_y, 5)),
        (unit_range(digits.test_x), digits.test_y),
        options=SemiSupervisedGANOptions(num_samples=0, **options),
    )


def test_telling_real_from_generated_teaches_classes_and_is_exported(tmp_path: Path) -> None:
    digits = load_images("digits")
    alone = digits_trainer(tmp_path / "alone", lambda_u=0.0, max_steps=300)
    trainer = digits_trainer(tmp_path / "run", max_steps=300)

    alone.train()
    trainer.train()

    before, after = (found.evaluate()["eval_epoch_metric"] for found in (alone, trainer))
    assert after > before + 0.02
    export(trainer, tmp_path / "artifact")
    rebuilt = load_artifact(tmp_path / "artifact")
    with trainer.averaged_weights(), torch.no_grad():
        expected = trainer.model.eval().encode(unit_range(digits.test_x[:5])).numpy()  # type: ignore[operator]
    np.testing.assert_allclose(expected, rebuilt.embed(list(digits.test_x[:5])), atol=1e-6)
    assert not any(name.startswith("generator") for name in rebuilt.net.state_dict())


def test_a_convolutional_one_learns_classes_of_labels_and_shows_pictures(tmp_path: Path) -> None:
    digits = load_images("mnist").part(500, 500)
    torch.manual_seed(0)
    trainer = SemiSupervisedGANTrainer(
        build_net("gan", {"width": 8, "num_outputs": 10, "discriminator_norm": "none"}),
        quiet(tmp_path, batch_size=20, lr=3e-3),
        (unit_range(digits.train_x), hide_labels(digits.train_y, 10)),
        (unit_range(digits.test_x), digits.test_y),
        options=SemiSupervisedGANOptions(num_samples=4, max_steps=60, augment=("translation",)),
    )

    trainer.train()

    assert trainer.logs["eval_epoch_metric"] > 0.5
    chances = trainer.classify(unit_range(digits.test_x[:7]))
    torch.testing.assert_close(torch.ones(7), chances.sum(1))


def test_the_losses_are_those_of_a_softmax_with_a_class_more() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    with_generated = torch.cat([logits, torch.zeros(6, 1)], dim=1).log_softmax(1)
    is_real = with_generated[:, :4].exp().sum(1).log()

    torch.testing.assert_close(-is_real.mean(), real_loss(logits))
    torch.testing.assert_close(-with_generated[:, 4].mean(), generated_loss(logits))


def test_matching_compares_means_and_moves_the_generator_alone() -> None:
    real = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    generated = torch.tensor([[0.0, 0.0], [2.0, 2.0]], requires_grad=True)

    assert (2.5, 1.5) == tuple(float(MATCHINGS[name](real, generated)) for name in ("square", "absolute"))
    MATCHINGS["square"](real, generated).backward()
    assert real.grad is None
    assert generated.grad is not None


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    rules = SemiSupervisedGANOptions(loss="least_squares", r1=1.0, ema={"d": 0.9, "x": 0.9})
    flat = build_net("mlp_gan", {"shape": (8,), "output": "linear"})

    with pytest.raises(InvalidConfig) as wrong_options:
        SemiSupervisedGANTrainer(flat, quiet(tmp_path), options=rules)
    with pytest.raises(InvalidConfig) as wrong_net:
        SemiSupervisedGANTrainer(
            flat, quiet(tmp_path), options=SemiSupervisedGANOptions(augment=("cutout",), num_samples=8)
        )
    with pytest.raises(InvalidConfig) as no_judge:
        SemiSupervisedGANTrainer(
            build_net("mlp_gan", {"num_outputs": 10}),
            quiet(tmp_path),
            options=SemiSupervisedGANOptions(fid_samples=100),
        )

    paths = [
        {problem.path for problem in found.value.problems} for found in (wrong_options, wrong_net, no_judge)
    ]
    assert [
        {("options", "loss"), ("options", "r1"), ("options", "ema", "x")},
        {("net", "num_outputs"), ("options", "augment"), ("options", "num_samples")},
        {("options", "fid_samples")},
    ] == paths
