"""Classifiers from few labels as a training of the service asks for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bus.messages.training import SemiSupervisedParameters
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
from workers.train.data.labels import UNLABELLED
from workers.train.run import CannotTrain, export_model


def mnist() -> Stored:
    return pictures("mnist", 2000, 500)


def digits() -> Stored:
    return pictures("digits", 1437, 360)


def photographs() -> Stored:
    return pictures("cifar10", 400, 100)


def news() -> Stored:
    return texts("bbc_news", 800, 200)


FEW: dict[str, Any] = {"labels_per_class": 10, "width": 8}
CASES: dict[str, tuple[Callable[[], Stored], SemiSupervisedParameters, int, float]] = {
    "digits by FixMatch": (mnist, SemiSupervisedParameters(**FEW, threshold=0.7), 150, 0.6),
    "digits against a generator": (
        digits,
        SemiSupervisedParameters(**FEW, method="gan", unlabelled_ratio=1, learning_rate=3e-3),
        100,
        0.7,
    ),
    "photographs by a teacher": (
        photographs,
        SemiSupervisedParameters(**FEW, method="mean_teacher", unlabelled_ratio=2, ema_decay=0.9),
        60,
        0.13,
    ),
    "texts by their own guesses": (news, SemiSupervisedParameters(**FEW, method="pseudo_label"), 100, 0.45),
}


@pytest.mark.parametrize(("data", "parameters", "steps", "accuracy"), CASES.values(), ids=CASES)
def test_a_few_labels_are_enough_to_learn_from(
    data: Callable[[], Stored],
    parameters: SemiSupervisedParameters,
    steps: int,
    accuracy: float,
    tmp_path: Path,
) -> None:
    rows = data()

    trainer, said = trained(parameters, rows, tmp_path, max_steps=steps)

    losses = curve(said)
    assert losses[-1] < losses[0]
    found = export_model(trainer, rows, tmp_path / "model")
    assert found.generates is None
    assert found.metrics["accuracy"] > accuracy
    assert found.metrics["accuracy"] == curve(said, "eval_epoch_metric")[-1]
    check_vectors(trainer, tmp_path / "model", rows.rows["test"][:6])


def test_so_many_labels_of_each_class_are_kept_as_are_asked_for(tmp_path: Path) -> None:
    one, same, other = (
        labels_of(built(SemiSupervisedParameters(**FEW), mnist(), tmp_path, seed=seed)) for seed in (1, 1, 2)
    )

    assert [10] * 10 == one[one != UNLABELLED].bincount().tolist()
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def labels_of(trainer: object) -> torch.Tensor:
    labels: torch.Tensor = trainer.train_dataset[1]  # type: ignore[attr-defined]
    return labels


def test_rows_that_have_no_label_of_their_own_are_used_and_never_tested_with(tmp_path: Path) -> None:
    found = mnist()
    train, test = found.labels("train").clone(), found.labels("test").clone()
    train[100:], test[50:] = UNLABELLED, UNLABELLED
    part = stored(
        "images",
        found.rows["train"],
        found.rows["test"],
        (train, test),
        found.facts.classes,
        shape=(28, 28, 1),
    )

    trainer = built(SemiSupervisedParameters(width=8), part, tmp_path)

    assert torch.equal(train, labels_of(trainer))
    assert torch.equal(test[:50], trainer.eval_dataset[1])


@pytest.mark.parametrize(("data", "method"), [(digits, "fixmatch"), (digits, "gan"), (news, "mean_teacher")])
def test_training_goes_on_exactly(data: Callable[[], Stored], method: str, tmp_path: Path) -> None:
    rows = data()
    parameters = SemiSupervisedParameters(labels_per_class=4, width=4, batch_size=8, method=method)  # type: ignore[arg-type]

    check_resume(lambda folder: built(parameters, rows, folder, max_steps=6), tmp_path, batch=3)


@pytest.mark.parametrize(("data", "method"), [(digits, "fixmatch"), (digits, "gan"), (news, "fixmatch")])
def test_a_parent_is_where_it_begins(data: Callable[[], Stored], method: str, tmp_path: Path) -> None:
    rows = data()
    parameters = SemiSupervisedParameters(labels_per_class=4, width=4, batch_size=8, method=method)  # type: ignore[arg-type]
    first, _ = trained(parameters, rows, tmp_path, max_steps=2)
    export_model(first, rows, tmp_path / "model")

    second = built(parameters, rows, tmp_path / "second", parent=tmp_path / "model", seed=8)

    expected = load_artifact(tmp_path / "model" / "net").net.state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in second.model.state_dict().items())


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotTrain, match=r"500 labels a class are asked for, and class '\d' has") as found:
        built(SemiSupervisedParameters(labels_per_class=500), digits(), tmp_path)
    assert found.value.advice.startswith("Say labels_per_class 1")
    with pytest.raises(CannotTrain, match="a GAN generates no texts"):
        built(SemiSupervisedParameters(method="gan"), news(), tmp_path)
    with pytest.raises(CannotTrain, match="needs rows with labels"):
        built(SemiSupervisedParameters(), pictures("digits", 1437, 360, labelled=False), tmp_path)
