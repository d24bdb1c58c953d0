"""Generative adversarial nets learn, are judged, and are exported."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.train.scenarios import quiet
from workers.nets.manifest import load_artifact
from workers.nets.table import build_net
from workers.train.configs import GANOptions
from workers.train.data import load_images, unit_range
from workers.train.export import export
from workers.train.fid import fit_judge, frechet_distance
from workers.train.report import Fact, Samples
from workers.train.trainers import GANTrainer


def made(folder: Path, net: dict[str, Any], options: GANOptions, **more: Any) -> GANTrainer:
    digits = load_images("mnist").part(2000, 500)
    torch.manual_seed(0)
    return GANTrainer(
        build_net("gan", {"width": 8, "latent_dim": 16, **net}),
        quiet(folder, metric=None, batch_size=32, lr=2e-3, eval_strategy="no"),
        (unit_range(digits.train_x), digits.train_y),
        (unit_range(digits.test_x), digits.test_y),
        options=options,
        **more,
    )


@pytest.mark.parametrize(
    ("loss", "norm"), [("non_saturating", "batch"), ("least_squares", "batch"), ("hinge", "spectral")]
)
def test_every_loss_gets_closer_to_real_digits_shows_them_and_is_exported(
    loss: Any, norm: str, tmp_path: Path
) -> None:
    said: list[Fact] = []
    digits = load_images("mnist").part(2000, 500)
    judge = fit_judge(unit_range(digits.train_x), digits.train_y, num_epochs=2)
    options = GANOptions(loss=loss, max_steps=150, fid_samples=500, num_samples=16)
    trainer = made(tmp_path, {"discriminator_norm": norm}, options, judge=judge, report=said.append)

    trainer.train()
    logs = trainer.evaluate()

    real = judge.of(unit_range(digits.test_x))
    noise = frechet_distance(judge.of(torch.rand(500, 1, 28, 28)), real)
    assert logs["eval_fid"] < 0.5 * noise
    assert {"samples"} == {fact.name for fact in said if isinstance(fact, Samples)}
    export(trainer, tmp_path / "artifact")
    rebuilt = load_artifact(tmp_path / "artifact")
    trainer.model.eval()
    expected = trainer.net.encode(unit_range(digits.test_x[:5])).detach().numpy()
    np.testing.assert_allclose(expected, rebuilt.embed(list(digits.test_x[:5])), atol=1e-6)
