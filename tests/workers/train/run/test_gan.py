"""GANs as a training of the service asks for them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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
    trained,
)
from workers.nets.gan import Gan
from workers.nets.manifest import load_artifact
from workers.train.configs import GANOptions
from workers.train.report import Samples
from workers.train.rng import isolated_rng
from workers.train.run import CannotTrain, export_model, generate, total_steps
from workers.train.run.gan import side_of

SMALL: dict[str, Any] = {"width": 8, "latent_dim": 16, "batch_size": 32}


@pytest.fixture(scope="module")
def garments() -> Stored:
    return pictures("fashion_mnist", 2000, 500)


@pytest.fixture(scope="module")
def model(garments: Stored, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional GAN, exported."""
    folder = tmp_path_factory.mktemp("gan")
    trainer, _ = trained(GanParameters(**SMALL, conditional=True), garments, folder, max_steps=10)
    export_model(trainer, garments, folder / "model")
    return folder / "model"


def test_it_learns_garments_shows_what_it_makes_and_is_exported(garments: Stored, tmp_path: Path) -> None:
    parameters = GanParameters(**SMALL, learning_rate=2e-3, epochs=2)

    trainer, said = trained(parameters, garments, tmp_path)

    fids = curve(said, "eval_fid")
    assert 124 == total_steps(trainer) == trainer.global_step
    assert fids[-1] < 0.75 * fids[0]
    assert len(fids) == sum(isinstance(fact, Samples) for fact in said)
    found = export_model(trainer, garments, tmp_path / "model")
    assert ("images", "IMAGE", fids[-1]) == (found.generates, found.modality, found.metrics["fid"])
    assert {"loss", "loss_d", "loss_g", "real_score"} <= set(found.metrics)
    check_vectors(trainer, tmp_path / "model", list(garments.rows["test"][:8]))


def test_it_is_silent(garments: Stored, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trained(GanParameters(**SMALL), garments, tmp_path, max_steps=2)

    assert ("", "") == tuple(capfd.readouterr())


@pytest.mark.parametrize(
    ("parameters", "norm", "betas"),
    [
        (GanParameters(loss="hinge"), "spectral", [0.5, 0.999]),
        (GanParameters(loss="wasserstein_gp", n_critic=2), "none", [0.5, 0.9]),
        (GanParameters(loss="least_squares"), "batch", [0.5, 0.999]),
        (GanParameters(r1=1.0), "none", [0.5, 0.999]),
    ],
)
def test_a_loss_brings_the_norm_and_the_memory_that_suit_it(
    parameters: GanParameters, norm: str, betas: list[float], garments: Stored, tmp_path: Path
) -> None:
    trainer = built(parameters, garments, tmp_path)

    assert isinstance(trainer.model, Gan)
    assert isinstance(trainer.options, GANOptions)
    assert norm == trainer.model.config.discriminator_norm  # type: ignore[attr-defined]
    assert betas == trainer.options.optimizers["d"].arguments["betas"]


@pytest.mark.parametrize(
    ("side", "asked", "expected"),
    [(8, None, 28), (28, None, 28), (30, None, 32), (200, None, 64), (28, 64, 64)],
)
def test_pictures_are_as_large_as_the_data_or_as_is_asked(
    side: int, asked: int | None, expected: int
) -> None:
    assert expected == side_of(side, asked)


def test_each_net_has_its_rate(garments: Stored, tmp_path: Path) -> None:
    parameters = GanParameters(learning_rate=1e-3, discriminator_learning_rate=4e-3)

    options = built(parameters, garments, tmp_path).options

    assert (1e-3, 4e-3) == (options.optimizers["g"].lr, options.optimizers["d"].lr)


def test_the_same_seed_makes_the_same_pictures_and_another_others(model: Path, tmp_path: Path) -> None:
    spec, other = GenerationSpec(count=70, seed=5), GenerationSpec(count=70, seed=6)
    classes = [str(number) for number in range(10)]

    kinds = [
        generate(model, each, classes, tmp_path / name)
        for name, each in (("one", spec), ("same", spec), ("other", other))
    ]

    one, same, others = (
        [path.read_bytes() for path in made(tmp_path / name)] for name in ("one", "same", "other")
    )
    assert {"image/png"} == set(kinds)
    assert ["0000.png", "0069.png"] == [made(tmp_path / "one")[at].name for at in (0, -1)]
    assert one == same
    assert one != others


def made(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_pictures_are_those_of_the_net_in_turn_by_class_or_of_one(model: Path, tmp_path: Path) -> None:
    classes = [f"class {number}" for number in range(10)]
    generate(model, GenerationSpec(count=12, seed=1), classes, tmp_path / "all")
    generate(model, GenerationSpec(count=12, seed=1, label="class 3"), classes, tmp_path / "one")

    net = load_artifact(model / "net").net
    with isolated_rng(1), torch.no_grad():
        z = torch.randn(12, 16)
        expected = {
            name: net(z, asked)
            for name, asked in (("all", torch.arange(12) % 10), ("one", torch.full((12,), 3)))
        }
    for name, x in expected.items():
        pixels = np.stack([np.asarray(Image.open(path)) for path in made(tmp_path / name)])
        np.testing.assert_array_equal(pixels, (x[:, 0] * 255).round().byte().numpy())


def test_a_class_that_is_not_there_and_a_model_without_classes_are_told(
    model: Path, garments: Stored, tmp_path: Path
) -> None:
    with pytest.raises(CannotTrain, match="no class 'hat'"):
        generate(model, GenerationSpec(label="hat"), ["shoe"] * 10, tmp_path / "out")

    trainer, _ = trained(GanParameters(**SMALL), garments, tmp_path, max_steps=1)
    export_model(trainer, garments, tmp_path / "model")
    with pytest.raises(CannotTrain, match="can't be asked for a class"):
        generate(tmp_path / "model", GenerationSpec(label="shoe"), ["shoe"], tmp_path / "out")


def test_training_goes_on_exactly(garments: Stored, tmp_path: Path) -> None:
    parameters = GanParameters(
        **SMALL, loss="wasserstein_gp", n_critic=2, conditional=True, diff_augment=True
    )

    check_resume(lambda folder: built(parameters, garments, folder, max_steps=6), tmp_path, batch=7)


def test_a_parent_is_where_it_begins(model: Path, garments: Stored, tmp_path: Path) -> None:
    trainer = built(GanParameters(**SMALL, conditional=True), garments, tmp_path, parent=model)

    expected = load_artifact(model / "net").net.state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in trainer.model.state_dict().items())


def test_a_parent_that_does_not_fit_is_told_by_what_differs(
    model: Path, garments: Stored, tmp_path: Path
) -> None:
    wider = GanParameters(width=16, latent_dim=16, conditional=True)

    with pytest.raises(CannotTrain, match="width is 8 there and 16 here"):
        built(wider, garments, tmp_path, parent=model)


def test_what_does_not_fit_is_told(garments: Stored, tmp_path: Path) -> None:
    few = pictures("digits", 20, 5, labelled=False)

    with pytest.raises(CannotTrain, match="a batch of 64 is more than the 20 pictures") as found:
        built(GanParameters(), few, tmp_path)
    assert "Say batch_size 20 or less." == found.value.advice
    with pytest.raises(CannotTrain, match="needs rows with labels of at least two classes"):
        built(GanParameters(conditional=True, batch_size=8), few, tmp_path)
