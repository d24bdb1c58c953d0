"""Autoencoders as a training of the service asks for them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_wine  # type: ignore[import-untyped]

from bus.messages.training import AutoencoderParameters
from tests.workers.train.run.stored import (
    Stored,
    built,
    check_resume,
    check_vectors,
    curve,
    pictures,
    stored,
    texts,
    trained,
    untrained_loss,
)
from workers.nets.manifest import load_artifact
from workers.nets.parts import Net
from workers.train.report import Samples
from workers.train.run import CannotTrain, export_model


def digits() -> Stored:
    return pictures("digits", 1437, 360)


def mnist() -> Stored:
    return pictures("mnist", 1000, 200)


def news() -> Stored:
    return texts("bbc_news", 600, 150)


def wines() -> Stored:
    """Thirteen measurements, of which one is in the thousands and another below one."""
    rows = torch.from_numpy(load_wine().data).float()
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    return stored("numbers", rows[:140], rows[140:], modality=None, shape=(13,))


CASES: dict[str, tuple[Callable[[], Stored], AutoencoderParameters, float]] = {
    "digits": (digits, AutoencoderParameters(epochs=5, learning_rate=3e-3), 0.9),
    "digits, variational": (digits, AutoencoderParameters(kind="vae", epochs=4, kl_warmup_steps=40), 0.95),
    "pictures by convolutions": (mnist, AutoencoderParameters(epochs=4, learning_rate=3e-3), 0.5),
    "codes": (mnist, AutoencoderParameters(kind="vq_vae", epochs=3, learning_rate=3e-3), 0.6),
    "texts": (news, AutoencoderParameters(epochs=4, learning_rate=2e-3), 0.97),
    "texts with words left out": (
        news,
        AutoencoderParameters(kind="denoising", epochs=3, learning_rate=2e-3),
        0.99,
    ),
    "numbers": (
        wines,
        AutoencoderParameters(epochs=60, latent_dim=6, batch_size=20, learning_rate=5e-3),
        0.5,
    ),
}


@pytest.mark.parametrize(("data", "parameters", "share"), CASES.values(), ids=CASES)
def test_it_learns_what_it_is_given_and_its_vectors_are_kept(
    data: Callable[[], Stored], parameters: AutoencoderParameters, share: float, tmp_path: Path
) -> None:
    rows = data()

    trainer, said = trained(parameters, rows, tmp_path)

    losses = curve(said)
    assert losses[-1] < share * untrained_loss(parameters, rows, tmp_path)
    found = export_model(trainer, rows, tmp_path / "model")
    assert (None, losses[-1]) == (found.generates, found.metrics["loss"])
    items = list(rows.rows["test"][:6])
    check_vectors(
        trainer,
        tmp_path / "model",
        [item.tolist() for item in items] if rows.facts.kind == "numbers" else items,
    )
    assert (rows.facts.kind == "images") == any(isinstance(fact, Samples) for fact in said)


def test_pictures_that_are_too_small_for_convolutions_take_none(tmp_path: Path) -> None:
    nets = {
        name: built(parameters, data, tmp_path).model.net_name
        for name, data, parameters in (
            ("8", digits(), AutoencoderParameters()),
            ("28", mnist(), AutoencoderParameters()),
            ("flat", mnist(), AutoencoderParameters(net="mlp")),
        )
    }

    assert {"8": "mlp_autoencoder", "28": "conv_autoencoder", "flat": "mlp_autoencoder"} == nets


def test_numbers_come_back_in_their_own_units(tmp_path: Path) -> None:
    """The whole net takes and gives rows as they are, although it was trained on standardised ones."""
    rows = wines()
    parameters = AutoencoderParameters(epochs=60, latent_dim=12, batch_size=20, learning_rate=5e-3)
    trainer, _ = trained(parameters, rows, tmp_path)
    export_model(trainer, rows, tmp_path / "model")

    net = load_artifact(tmp_path / "model" / "net").net
    with torch.no_grad():
        rebuilt = net(rows.rows["test"])

    spread = rows.rows["train"].std(0)
    error = ((rebuilt - rows.rows["test"]) / spread).square().mean()
    assert error == pytest.approx(trainer.evaluate()["eval_mse"], rel=0.05)
    assert error < 0.5


@pytest.mark.parametrize("data", [digits, news, wines])
def test_training_goes_on_exactly(data: Callable[[], Stored], tmp_path: Path) -> None:
    rows = data()
    parameters = AutoencoderParameters(
        kind="beta_vae", beta=0.5, kl_warmup_steps=5, batch_size=20, grad_clip=1.0
    )

    check_resume(lambda folder: built(parameters, rows, folder, max_steps=9), tmp_path, batch=4)


@pytest.mark.parametrize("data", [digits, news, wines])
def test_a_parent_is_where_it_begins(data: Callable[[], Stored], tmp_path: Path) -> None:
    rows = data()
    parameters = AutoencoderParameters(batch_size=20, latent_dim=4)
    first, _ = trained(parameters, rows, tmp_path, max_steps=3)
    export_model(first, rows, tmp_path / "model")

    second = built(parameters, rows, tmp_path / "second", parent=tmp_path / "model", seed=9)

    assert isinstance(second.model, Net)
    assert first.evaluate()["eval_epoch_loss"] == second.evaluate()["eval_epoch_loss"]


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotTrain, match="needs pictures and convolutions"):
        built(AutoencoderParameters(kind="vq_vae"), news(), tmp_path)
    with pytest.raises(CannotTrain, match="not one word in the texts"):
        built(AutoencoderParameters(), stored("texts", ["", " "] * 50, []), tmp_path)
    with pytest.raises(CannotTrain, match="the data set is one of pairs"):
        built(AutoencoderParameters(), stored("pairs", [("a", "b")], []), tmp_path)
    with pytest.raises(CannotTrain, match="beta has no meaning for plain"):
        built(AutoencoderParameters(beta=3.0), digits(), tmp_path)
