"""Autoencoders of every kind learn, show what they learnt, and are exported."""

import io
import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from tests.workers.train.goals import missed_goals
from tests.workers.train.scenarios import quiet
from workers.nets.manifest import load_artifact
from workers.nets.table import build_net
from workers.nets.validation import InvalidConfig
from workers.train.configs.autoencoder import AutoencoderOptions
from workers.train.data import load_images, unit_range
from workers.train.evidence import autoencoder
from workers.train.evidence.measure import pca, rows_of
from workers.train.export import export
from workers.train.losses.reconstruction import kl_to_standard_normal
from workers.train.report import Fact, Samples
from workers.train.trainers import AutoencoderTrainer


class Kind(NamedTuple):
    """A net, its config, options, and the number of principal components that it has to beat."""

    net: str
    config: dict[str, Any]
    options: dict[str, Any]
    beats_pca: int


KINDS: dict[str, Kind] = {
    "plain": Kind("conv_autoencoder", {"latent_dim": 8}, {"reconstruction": "bce"}, 8),
    "denoising": Kind(
        "conv_autoencoder", {"latent_dim": 8}, {"reconstruction": "bce", "noise_level": 0.3}, 8
    ),
    "vae": Kind("mlp_autoencoder", {"latent_dim": 8, "variational": True}, {"reconstruction": "bce"}, 3),
    "beta_vae": Kind(
        "mlp_autoencoder",
        {"latent_dim": 8, "variational": True},
        {"reconstruction": "bce", "beta": 2.0, "kl_warmup_steps": 50},
        1,
    ),
    "vq_vae": Kind(
        "vq_autoencoder", {"num_codes": 32, "code_dim": 8, "width": 16}, {"reconstruction": "bce"}, 8
    ),
}


def made(folder: Path, kind: str, **more: Any) -> AutoencoderTrainer:
    digits = load_images("digits")
    name, config, options, _ = KINDS[kind]
    once = {"eval_strategy": "steps", "eval_steps": 10**6}
    torch.manual_seed(0)
    side = {"shape": (1, 8, 8)} if "mlp" in name else {"side": 8}
    return AutoencoderTrainer(
        build_net(name, {**config, **side}),
        quiet(folder, metric=None, batch_size=48, epoch_num=30, lr=5e-3, **once),
        unit_range(digits.train_x),
        (unit_range(digits.test_x), digits.test_y),
        options=AutoencoderOptions(kind=kind, **options),  # type: ignore[arg-type]
        **more,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_digits_shows_them_and_is_exported(kind: str, tmp_path: Path) -> None:
    said: list[Fact] = []
    trainer = made(tmp_path / "run", kind, report=said.append)
    digits = load_images("digits")
    train_x, test_x = unit_range(digits.train_x), unit_range(digits.test_x)
    _, _, linear_error = pca(rows_of(train_x), rows_of(test_x), KINDS[kind].beats_pca)

    trainer.train()

    assert trainer.logs["eval_mse"] < linear_error
    if trainer.options.is_variational:
        share = train_x.mean(0).clamp(1e-3, 1 - 1e-3)
        nats = -(test_x * share.log() + (1 - test_x) * (1 - share).log()).flatten(1).sum(1).mean()
        assert trainer.logs["eval_neg_elbo"] < float(nats)
    pictures = [fact for fact in said if isinstance(fact, Samples)]
    wanted = {"reconstructions"} | ({"interpolations"} if kind != "vq_vae" else set())
    assert wanted | ({"prior"} if "vae" in kind else set()) == {fact.name for fact in pictures}
    with Image.open(io.BytesIO(pictures[0].content)) as image:
        assert (8 * 18, 2 * 18) == image.size
    manifest = export(trainer, tmp_path / "artifact")
    rebuilt = load_artifact(tmp_path / "artifact")
    trainer.model.eval()
    expected = trainer.model.encode(unit_range(digits.test_x[:5])).detach().numpy()  # type: ignore[operator]
    np.testing.assert_allclose(expected, rebuilt.embed(list(digits.test_x[:5])), atol=1e-6)
    assert manifest.metrics["eval_mse"] == trainer.logs["eval_mse"]
    assert not any(name.startswith("decoder") for name in rebuilt.net.state_dict())


def test_the_kl_term_is_the_distance_of_two_normals() -> None:
    mu, log_var = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.3, -0.7]])
    ours = torch.distributions.Normal(mu, (0.5 * log_var).exp())
    expected = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)).sum()

    torch.testing.assert_close(expected, kl_to_standard_normal(mu, log_var)[0])


def test_the_importance_bound_is_exact_where_the_truth_is_known(tmp_path: Path) -> None:
    """With a decoder that ignores z, and q equal to the prior, every weight is p(x) itself."""
    trainer = made(tmp_path, "vae")
    for parameter in trainer.model.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.rand(3, 1, 8, 8)

    bound = float(trainer.neg_iwae(x, 7))

    assert math.isclose(64 * math.log(2), bound, rel_tol=1e-5)


def test_more_importance_samples_give_a_tighter_bound(tmp_path: Path) -> None:
    trainer = made(tmp_path, "vae")
    trainer.train()
    torch.manual_seed(0)
    parts = torch.split(unit_range(load_images("digits").test_x), 12)

    gaps = [float(trainer.neg_iwae(part, 1) - trainer.neg_iwae(part, 50)) for part in parts]

    # By more than chance: three standard errors.
    assert statistics.fmean(gaps) > 3 * statistics.stdev(gaps) / math.sqrt(len(gaps))


def test_the_weight_of_the_kl_term_grows_in_training_and_is_full_in_evaluation(tmp_path: Path) -> None:
    trainer = made(tmp_path, "beta_vae")

    trainer.micro_step = 25

    assert (1.0, 2.0) == (trainer.kl_weight(), trainer.kl_weight(training=False))


def test_a_bag_of_words_is_rebuilt_better_than_by_word_frequencies(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    topics = torch.softmax(torch.randn(3, 40, generator=generator) * 2, 1)
    which = torch.randint(0, 3, (600,), generator=generator)
    words = torch.multinomial(topics[which], 30, replacement=True, generator=generator)
    counts = torch.zeros(600, 40).scatter_add_(1, words, torch.ones_like(words, dtype=torch.float))
    net = build_net("mlp_autoencoder", {"shape": [40], "hidden": [32], "latent_dim": 4, "variational": True})
    options = AutoencoderOptions(kind="vae", reconstruction="multinomial")
    trainer = AutoencoderTrainer(
        net, quiet(tmp_path, metric=None, epoch_num=20), counts[:500], counts[500:], options=options
    )

    trainer.train()

    share = counts[:500].sum(0) / counts[:500].sum()
    unigram = float(-(counts[500:] * share.log()).sum(1).mean())
    assert trainer.logs["eval_neg_elbo"] < unigram - 2


@pytest.mark.parametrize(
    ("name", "config", "kind"),
    [
        ("conv_autoencoder", {}, "vae"),
        ("conv_autoencoder", {"variational": True}, "plain"),
        ("vq_autoencoder", {}, "plain"),
        ("conv_autoencoder", {}, "vq_vae"),
    ],
)
def test_a_net_that_does_not_fit_the_kind_is_refused(
    name: str, config: Any, kind: Any, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfig):
        AutoencoderTrainer(build_net(name, config), quiet(tmp_path), options=AutoencoderOptions(kind=kind))


def test_options_that_contradict_each_other_are_all_named(tmp_path: Path) -> None:
    options = AutoencoderOptions(kind="plain", kl_warmup_steps=3, importance_samples=2)

    with pytest.raises(InvalidConfig) as found:
        AutoencoderTrainer(build_net("conv_autoencoder"), quiet(tmp_path), options=options)

    assert {("options", "kl_warmup_steps"), ("options", "importance_samples")} == {
        problem.path for problem in found.value.problems
    }


@pytest.mark.goal
@pytest.mark.parametrize(
    ("row", "steps"),
    [("autoencoder VAE 784-400-20 mnist", 2400), ("autoencoder convolutional AE, 32 dims mnist", 1200)],
)
def test_the_goals_on_mnist_are_met_in_half_the_steps(row: str, steps: int) -> None:
    assert {} == missed_goals(autoencoder.rows, row, options={"max_steps": steps})
