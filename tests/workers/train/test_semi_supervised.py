"""Classifiers of few labels learn from rows without labels, and are exported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.workers.train.scenarios import quiet
from tests.workers.train.scenarios.semi_supervised import fixmatch, mean_teacher
from workers.nets.contracts import TokensInput
from workers.nets.manifest import load_artifact
from workers.nets.table import build_net
from workers.nets.validation import InvalidConfig
from workers.train.base.ema import tensors_of
from workers.train.configs import SemiSupervisedOptions
from workers.train.data import UNLABELLED, Ragged, hide_labels, load_images, load_texts, unit_range
from workers.train.data.augment import noise
from workers.train.data.vocabularies import encode_rows, word_tokenizer
from workers.train.export import export
from workers.train.losses.consistency import aligned, pseudo_label, sharpened, softmax_kl, softmax_mse
from workers.train.trainers import SemiSupervisedTrainer
from workers.train.trainers.partly_labelled import split_labelled

FEW = 10
NUM_WORDS = 3000
#: What each method needs to do well with little time.
METHODS: Mapping[str, dict[str, Any]] = {
    "fixmatch": {"threshold": 0.7},
    "mean_teacher": {
        "lambda_u": 30.0,
        "ramp": "sigmoid",
        "ramp_steps": 60,
        "student_view": "strong",
        "unlabelled_ratio": 4,
    },
    "pseudo_label": {"threshold": 0.8, "ramp_steps": 120},
}


def mnist_trainer(folder: Path, method: str, **options: Any) -> SemiSupervisedTrainer:
    """2,000 digits, of which 100 have a label."""
    digits = load_images("mnist").part(2000, 1000)
    torch.manual_seed(0)
    return SemiSupervisedTrainer(
        build_net("conv_classifier", {"width": 8}),
        quiet(folder, batch_size=20, lr=5e-3, lr_scheduler_type="cosine", eval_strategy="no"),
        (unit_range(digits.train_x), hide_labels(digits.train_y, FEW)),
        (unit_range(digits.test_x), digits.test_y),
        options=SemiSupervisedOptions(method=method, max_steps=250, **options),  # type: ignore[arg-type]
    )


def news_trainer(folder: Path, method: str, **options: Any) -> SemiSupervisedTrainer:
    """BBC news as token numbers; ten labels of each topic."""
    news = load_texts("bbc_news")
    texts = [text for text, _ in news.train]
    tokenizer = word_tokenizer(texts, NUM_WORDS)

    def columns(rows: list[tuple[str, int]]) -> dict[str, Ragged | Tensor]:
        labels = torch.tensor([label for _, label in rows])
        return {"ids": encode_rows(tokenizer, [text for text, _ in rows], most=100), "labels": labels}

    train, test = columns(news.train), columns(news.test)
    torch.manual_seed(0)
    trainer = SemiSupervisedTrainer(
        build_net("pooled_words", {"vocabulary_size": NUM_WORDS, "num_classes": 5, "max_length": 100}),
        quiet(folder, batch_size=20, lr=5e-3, lr_scheduler_type="cosine", eval_strategy="no"),
        {**train, "labels": hide_labels(train["labels"], FEW)},  # type: ignore[arg-type]
        test,
        options=SemiSupervisedOptions(
            method=method,  # type: ignore[arg-type]
            augmentation="words",
            word_dropout=(0.2, 0.7),
            max_steps=250,
            **options,
        ),
    )
    trainer.describe_input(TokensInput(max_length=100), tokenizer)
    return trainer


def accuracy(trainer: SemiSupervisedTrainer) -> float:
    trainer.train()
    return float(trainer.evaluate()["eval_epoch_metric"])


@pytest.fixture(scope="module")
def digits_alone(tmp_path_factory: pytest.TempPathFactory) -> float:
    """What 100 labels alone give."""
    torch.set_num_threads(1)
    return accuracy(mnist_trainer(tmp_path_factory.mktemp("alone"), "supervised"))


@pytest.fixture(scope="module")
def news_alone(tmp_path_factory: pytest.TempPathFactory) -> float:
    """What 50 labels alone give."""
    torch.set_num_threads(1)
    return accuracy(news_trainer(tmp_path_factory.mktemp("alone"), "supervised"))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_learns_digits_better_than_labels_alone_and_is_exported(
    method: str, digits_alone: float, tmp_path: Path
) -> None:
    test_x = load_images("mnist").part(2000, 1000).test_x[:5]
    trainer = mnist_trainer(tmp_path / "run", method, **METHODS[method])

    assert accuracy(trainer) > digits_alone + 0.02

    export(trainer, tmp_path / "artifact")
    rebuilt = load_artifact(tmp_path / "artifact")
    with trainer.averaged_weights(), torch.no_grad():
        expected = trainer.model.eval().encode(unit_range(test_x)).numpy()  # type: ignore[operator]
    np.testing.assert_allclose(expected, rebuilt.embed(list(test_x)), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_learns_topics_of_news_better_than_labels_alone(
    method: str, news_alone: float, tmp_path: Path
) -> None:
    trainer = news_trainer(tmp_path / "run", method, **METHODS[method])

    assert accuracy(trainer) > news_alone + 0.02


def test_a_net_of_words_is_exported_with_its_words(tmp_path: Path) -> None:
    trainer = news_trainer(tmp_path / "run", "fixmatch")
    texts = [text for text, _ in load_texts("bbc_news").test[:3]]

    export(trainer, tmp_path / "artifact")

    inputs = TokensInput(max_length=100).prepare(texts, trainer.tokenizer)  # type: ignore[arg-type]
    expected = trainer.model.eval().encode(inputs).detach().numpy()  # type: ignore[operator]
    np.testing.assert_allclose(expected, load_artifact(tmp_path / "artifact").embed(texts), atol=1e-6)


# What the parts compute.


def test_pseudo_labels_are_the_cross_entropy_of_sure_rows_over_all_rows() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.3, 0.1], [-1.0, 3.0, 0.0]], requires_grad=True)
    guess = torch.tensor([[0.9, 0.05, 0.05], [0.4, 0.3, 0.3], [0.1, 0.1, 0.8]])
    expected = -(logits.log_softmax(1)[0, 0] + logits.log_softmax(1)[2, 2]) / 3

    found = pseudo_label(logits, guess, 0.75)

    torch.testing.assert_close(expected, found.loss)
    torch.testing.assert_close(torch.tensor(2 / 3), found.used)


def test_consistency_is_a_distance_that_moves_the_student_alone() -> None:
    student, teacher = (torch.randn(4, 3, generator=torch.Generator().manual_seed(at)) for at in (0, 1))
    student.requires_grad_()
    teacher.requires_grad_()
    p, q = teacher.softmax(1), student.softmax(1)

    torch.testing.assert_close(((p - q) ** 2).mean(), softmax_mse(student, teacher))
    torch.testing.assert_close((p * (p / q).log()).sum(1).mean(), softmax_kl(student, teacher))
    (softmax_mse(student, teacher) + softmax_kl(student, teacher)).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_aligned_guesses_are_as_frequent_as_the_labels() -> None:
    guess = torch.tensor([[0.8, 0.2], [0.6, 0.4]])
    wanted, seen = torch.tensor([0.5, 0.5]), guess.mean(0)

    found = aligned(guess, torch.stack([wanted, seen]))

    torch.testing.assert_close(torch.tensor([[0.8 / 0.7, 0.2 / 0.3]]) / (0.8 / 0.7 + 0.2 / 0.3), found[:1])
    torch.testing.assert_close(torch.ones(2), found.sum(1))


def test_a_lower_temperature_sharpens() -> None:
    probabilities = torch.tensor([[0.7, 0.3]])

    found = sharpened(probabilities.log(), 0.5)

    torch.testing.assert_close(probabilities.square() / probabilities.square().sum(), found)


def test_noise_has_the_spread_of_each_column() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 2, generator=generator) * torch.tensor([1.0, 10.0])

    added = noise(x, generator, level=0.5) - x

    torch.testing.assert_close(0.5 * x.std(0), added.std(0), rtol=0.05, atol=0)


# Which rows go where.


def test_hidden_labels_leave_as_many_of_each_class_and_are_drawn_by_the_seed() -> None:
    labels = torch.arange(3).repeat(50)

    hidden = hide_labels(labels, 4, seed=1)

    kept = hidden != UNLABELLED
    assert [4, 4, 4] == hidden[kept].bincount().tolist()
    assert torch.equal(labels[kept], hidden[kept])
    assert torch.equal(hidden, hide_labels(labels, 4, seed=1))
    assert not torch.equal(hidden, hide_labels(labels, 4, seed=2))
    with pytest.raises(ValueError, match="51 labels of class 0 asked for"):
        hide_labels(labels, 51)


def test_ragged_rows_are_parted_with_their_labels() -> None:
    labels = torch.tensor([UNLABELLED, 1, UNLABELLED, 0])
    rows = Ragged.of([[1, 2], [3], [4, 5, 6], [7, 8]])

    parts = split_labelled({"ids": rows, "labels": labels})

    ids = parts.labelled["ids"]
    assert [3, 7, 8] == ids.values.tolist()
    assert [0, 1, 3] == ids.offsets.tolist()
    assert [1, 0] == parts.labelled["labels"].tolist()
    assert {"ids": rows} == parts.all_rows


@pytest.mark.parametrize(
    "data",
    [
        torch.zeros(3, 2),
        (torch.zeros(3, 2), torch.full((3,), UNLABELLED)),
        {"ids": torch.zeros(3, 2)},
    ],
    ids=["no labels", "no label known", "no column of labels"],
)
def test_data_without_a_label_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"label"):
        split_labelled(data)


def test_the_teacher_is_the_average_whatever_moves_it(tmp_path: Path) -> None:
    trainer = mean_teacher(tmp_path)
    trainer.train()
    average = trainer.networks_by_name["main"].ema
    assert isinstance(trainer, SemiSupervisedTrainer)
    assert average is not None
    x = torch.randn(5, 8)

    with trainer.averaged_weights():
        expected = trainer.model.eval()(x)

    torch.testing.assert_close(expected, trainer.teacher(x), rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in trainer.teacher.parameters())
    tensors_of(average)[0].zero_()
    assert 0 == float(next(trainer.teacher.parameters()).abs().sum())


def test_the_weight_of_unlabelled_rows_grows_and_early_stopping_waits_for_it(tmp_path: Path) -> None:
    trainer = mean_teacher(tmp_path)
    assert isinstance(trainer, SemiSupervisedTrainer)
    weights = []

    for batch in (0, 4, 8, 100):
        trainer.micro_step = batch
        weights.append(trainer.unlabelled_weight())

    np.testing.assert_allclose([20 * np.exp(-5), 20 * np.exp(-1.25), 20, 20], weights)
    assert 8 == trainer.warmup_steps()


def test_the_running_frequencies_follow_labels_and_guesses(tmp_path: Path) -> None:
    trainer = fixmatch(tmp_path)
    trainer.train()

    marginals = trainer.extra_state()["marginals"]

    torch.testing.assert_close(torch.ones(2), marginals.sum(1))
    assert not torch.equal(marginals[0], marginals[1])


def test_options_that_contradict_each_other_are_all_named(tmp_path: Path) -> None:
    options = SemiSupervisedOptions(
        method="mean_teacher", ema=None, align=True, temperature=0.5, word_dropout=(0.5, 0.1)
    )

    with pytest.raises(InvalidConfig) as found:
        SemiSupervisedTrainer(build_net("conv_classifier"), quiet(tmp_path), options=options)

    assert {
        ("options", "ema"),
        ("options", "align"),
        ("options", "temperature"),
        ("options", "word_dropout"),
    } == {problem.path for problem in found.value.problems}
