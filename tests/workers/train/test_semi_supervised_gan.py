"""A discriminator of K classes learns from few labels, and a generator matches its features."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.workers.train.scenarios import quiet
from workers.nets.manifest import load_artifact
from workers.nets.table import build_net
from workers.nets.validation import InvalidConfig
from workers.train.configs import SemiSupervisedGANOptions
from workers.train.data import UNLABELLED, hide_labels, load_images, load_texts, unit_range
from workers.train.evidence.measure import linear_probe, rows_of
from workers.train.evidence.semi_supervised import embeddings
from workers.train.export import export
from workers.train.losses.salimans import MATCHINGS, generated_loss, real_loss
from workers.train.report import Fact, Samples
from workers.train.trainers import SemiSupervisedGANTrainer


class News(NamedTuple):
    """Embeddings of BBC news, twenty labels a topic, and the test part."""

    train_x: Tensor
    hidden: Tensor
    test_x: Tensor
    test_y: Tensor


@pytest.fixture(scope="module")
def news() -> News:
    found = load_texts("bbc_news")
    train, test = ([text for text, _ in part] for part in (found.train, found.test))
    train_y, test_y = (torch.tensor([label for _, label in part]) for part in (found.train, found.test))
    train_x, test_x = embeddings(train, test, 50)
    return News(train_x, hide_labels(train_y, 20), test_x, test_y)


def news_trainer(
    folder: Path, news: News, *, scales: str = "learned", **options: Any
) -> SemiSupervisedGANTrainer:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "shape": (50,),
        "latent_dim": 20,
        "generator": (64, 64),
        "discriminator": (64, 32),
    }
    return SemiSupervisedGANTrainer(
        build_net("mlp_gan", {**sizes, "output": "linear", "num_outputs": 5, "scales": scales}),
        quiet(folder, batch_size=50, lr=3e-3, lr_scheduler_type="linear", eval_strategy="no"),
        (news.train_x, news.hidden),
        (news.test_x, news.test_y),
        options=SemiSupervisedGANOptions(num_samples=0, **{"max_steps": 300, **options}),
    )


def test_telling_real_from_generated_teaches_topics_of_news_and_is_exported(
    news: News, tmp_path: Path
) -> None:
    alone = news_trainer(tmp_path / "alone", news, lambda_u=0.0)
    trainer = news_trainer(tmp_path / "run", news)

    alone.train()
    trainer.train()

    before, after = (found.evaluate()["eval_epoch_metric"] for found in (alone, trainer))
    assert after > before + 0.01
    export(trainer, tmp_path / "artifact")
    rebuilt = load_artifact(tmp_path / "artifact")
    with trainer.averaged_weights(), torch.no_grad():
        expected = trainer.model.eval().encode(news.test_x[:5]).numpy()  # type: ignore[operator]
    np.testing.assert_allclose(expected, rebuilt.embed(news.test_x[:5].tolist()), atol=1e-6)
    assert not any(name.startswith("generator") for name in rebuilt.net.state_dict())


def test_a_convolutional_one_learns_digits_better_than_a_linear_model_and_shows_pictures(
    tmp_path: Path,
) -> None:
    digits = load_images("mnist").part(2000, 500)
    train_x, test_x = unit_range(digits.train_x), unit_range(digits.test_x)
    hidden = hide_labels(digits.train_y, 10)
    few = hidden != UNLABELLED
    linear = linear_probe((rows_of(train_x[few]), hidden[few]), (rows_of(test_x), digits.test_y))
    said: list[Fact] = []
    torch.manual_seed(0)
    trainer = SemiSupervisedGANTrainer(
        build_net("gan", {"width": 8, "latent_dim": 16, "num_outputs": 10, "discriminator_norm": "none"}),
        quiet(tmp_path, batch_size=40, lr=5e-3, eval_strategy="no"),
        (train_x, hidden),
        (test_x, digits.test_y),
        options=SemiSupervisedGANOptions(num_samples=4, max_steps=300, augment=("translation",)),
        report=said.append,
    )

    trainer.train()

    assert trainer.evaluate()["eval_epoch_metric"] > linear + 0.02
    assert ["samples"] == [fact.name for fact in said if isinstance(fact, Samples)]
    torch.testing.assert_close(torch.ones(7), trainer.classify(test_x[:7]).sum(1))


def test_a_fresh_discriminator_passes_on_a_variance_of_one_in_all_of_its_layers() -> None:
    torch.manual_seed(0)
    net = build_net("mlp_gan", {"shape": (200,), "output": "linear", "num_outputs": 10, "scales": "fixed"})
    seen: list[Tensor] = []
    for layer in net.discriminator.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda _layer, _inputs, outputs: seen.append(outputs))

    net.train().discriminator(torch.randn(500, 200))

    assert 6 == len(seen)
    for outputs in seen:
        assert 1 == pytest.approx(float(outputs.detach().std(0).mean()), abs=0.1)
        assert 0 == pytest.approx(float(outputs.detach().mean()), abs=0.1)


@pytest.mark.parametrize(("scales", "num_moved"), [("fixed", 1), ("learned", 3)])
def test_fixed_scales_of_hidden_layers_stay_and_those_of_the_classes_are_learnt(
    scales: str, num_moved: int, news: News, tmp_path: Path
) -> None:
    trainer = news_trainer(tmp_path, news, scales=scales, max_steps=20)
    kept = {name: scale for name, scale in trainer.model.named_parameters() if name.endswith("original0")}
    before = {name: scale.detach().clone() for name, scale in kept.items()}

    trainer.train()

    moved = {name for name, scale in kept.items() if not torch.equal(scale, before[name])}
    assert num_moved == len(moved)
    assert "discriminator.head.parametrizations.weight.original0" in moved


def test_matched_features_are_free_of_the_noise_of_the_classes_layer() -> None:
    quiet_but_last = {"shape": (8,), "output": "linear", "discriminator": (6,), "input_noise": 0.0}
    net = build_net("mlp_gan", quiet_but_last).train()
    x = torch.randn(5, 8)

    torch.testing.assert_close(net.discriminator.features(x), net.discriminator.features(x))
    assert not torch.equal(net.discriminator(x), net.discriminator(x))


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
