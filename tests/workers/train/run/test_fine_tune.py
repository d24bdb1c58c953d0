"""Operators' models as a training of the service asks for them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bus.messages.training import FineTuneParameters
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
)
from workers.nets.manifest import load_artifact
from workers.train.configs import FineTuneOptions
from workers.train.run import CannotTrain, export_model
from workers.train.run.hosted import FineTuneTrainer


def options(parameters: FineTuneParameters, data: Stored, folder: Path, **spec: Any) -> FineTuneOptions:
    found = built(parameters, data, folder, **spec).options
    assert isinstance(found, FineTuneOptions)
    return found


def photographs() -> Stored:
    return pictures("cifar10", 300, 100)


def news() -> Stored:
    return texts("bbc_news", 200, 60)


PROBE = FineTuneParameters(method="probe", image_size=64, max_length=16, epochs=8)


def test_a_probe_tells_photographs_apart_and_its_vectors_are_kept(tmp_path: Path) -> None:
    rows = photographs()

    trainer, said = trained(PROBE, rows, tmp_path)

    assert curve(said)[-1] < curve(said)[0]
    found = export_model(trainer, rows, tmp_path / "model")
    # Ten classes, of 300 photographs in all.
    assert found.metrics["accuracy"] > 0.5
    assert 1280 == found.dimension
    check_vectors(trainer, tmp_path / "model", rows.rows["test"][:4])


def test_a_probe_tells_news_apart_and_another_training_goes_on_from_it(tmp_path: Path) -> None:
    rows = news()
    trainer, said = trained(PROBE, rows, tmp_path)
    assert curve(said)[-1] < curve(said)[0]
    found = export_model(trainer, rows, tmp_path / "model")
    # Five classes.
    assert found.metrics["accuracy"] > 0.6
    check_vectors(trainer, tmp_path / "model", rows.rows["test"][:4])

    full = FineTuneParameters(max_length=16, frozen_stages=6, rate_decay=0.5)
    second, said = trained(full, rows, tmp_path / "second", parent=tmp_path / "model", max_steps=4)

    assert curve(said)[0] < 1.2 * curve(said)[-1]
    assert second.evaluate()["eval_epoch_metric"] > 0.6


def test_photographs_are_mirrored_where_the_whole_net_learns_and_drawings_never(tmp_path: Path) -> None:
    full = FineTuneParameters(image_size=32)
    part = FineTuneParameters(image_size=32, frozen_stages=3)

    chosen = [
        options(parameters, data, tmp_path).augment
        for parameters, data in (
            (full, photographs()),
            (part, photographs()),
            (full, pictures("digits", 100, 20)),
        )
    ]

    assert ["mirror", "none", "none"] == chosen


def test_rows_that_are_seen_once_are_not_computed_beforehand(tmp_path: Path) -> None:
    rows = photographs()

    assert not options(PROBE, rows, tmp_path, max_steps=5).cache
    assert options(PROBE, rows, tmp_path, max_steps=50).cache


def test_training_goes_on_exactly(tmp_path: Path) -> None:
    rows = photographs()
    parameters = FineTuneParameters(image_size=32, frozen_stages=8, batch_size=32)

    check_resume(lambda folder: built(parameters, rows, folder, max_steps=11), tmp_path, batch=6)


def test_the_classifier_is_kept_beside_the_encoder(tmp_path: Path) -> None:
    rows = photographs()
    trainer, _ = trained(FineTuneParameters(image_size=32), rows, tmp_path, max_steps=1)
    export_model(trainer, rows, tmp_path / "model")
    assert isinstance(trainer, FineTuneTrainer)

    second = built(
        FineTuneParameters(image_size=32), rows, tmp_path / "two", parent=tmp_path / "model", seed=5
    )

    weights = second.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in trainer.model.state_dict().items())
    assert "headed_lite0" == load_artifact(tmp_path / "model" / "net").manifest.net


def test_what_does_not_fit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotTrain, match="minilm takes texts"):
        built(FineTuneParameters(base="minilm"), photographs(), tmp_path)
    with pytest.raises(CannotTrain, match="frozen stages is over the 7 that there are"):
        built(FineTuneParameters(frozen_stages=30), news(), tmp_path)
    with pytest.raises(CannotTrain, match="the data set is one of numbers"):
        built(FineTuneParameters(), stored("numbers", torch.zeros(4, 2), torch.zeros(0, 2)), tmp_path)
    monkeypatch.setattr("workers.nets.pretrained._MINILM", "no_such_package")
    with pytest.raises(CannotTrain, match="not installed with this worker") as found:
        built(FineTuneParameters(), news(), tmp_path)
    assert "PIPELINE_UNAVAILABLE" == found.value.code
