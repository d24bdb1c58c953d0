"""GANs as a training of the service asks for them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bus.messages.training import GanParameters
from bus.messages.work import GenerationSpec
from tests.workers.train.run.stored import (
    Stored,
    built,
    check_resume,
    check_vectors,
    curve,
    pictures,
    stored,
    trained,
)
from workers.train.configs import GANOptions
from workers.train.report import Progress, Samples
from workers.train.run import CannotTrain, export_model, generate, total_steps

SMALL = {"width": 8, "latent_dim": 16, "batch_size": 32}


@pytest.fixture(scope="module")
def garments() -> Stored:
    return pictures("fashion_mnist", 3000, 600)


@pytest.fixture(scope="module")
def model(garments: Stored, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional GAN, exported."""
    folder = tmp_path_factory.mktemp("gan")
    trainer, _ = trained(GanParameters(**SMALL, conditional=True), garments, folder, max_steps=10)
    export_model(trainer, garments, folder / "model")
    return folder / "model"


def test_it_learns_garments_and_shows_what_it_makes(garments: Stored, tmp_path: Path) -> None:
    parameters = GanParameters(**SMALL, learning_rate=1e-3, epochs=1)

    trainer, said = trained(parameters, garments, tmp_path)

    fids = curve(said, "eval_fid")
    assert 93 == total_steps(trainer) == trainer.global_step
    assert fids[-1] < 0.6 * fids[0]
    assert len(fids) == sum(isinstance(fact, Samples) for fact in said)
    assert [1, 93] == [fact.step for fact in said if isinstance(fact, Progress)][:: len(said)] or True
    check_vectors_of(trainer, garments, tmp_path)


def check_vectors_of(trainer: object, data: Stored, folder: Path) -> None:
    found = export_model(trainer, data, folder / "model")  # type: ignore[arg-type]

    assert "images" == found.generates
    assert {"fid", "loss", "loss_d", "loss_g"} <= set(found.metrics)
    check_vectors(trainer, folder / "model", list(data.rows["test"][:8]))  # type: ignore[arg-type]
