"""Generative adversarial nets learn, are judged, and are exported."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.workers.train.goals import missed_goals
from tests.workers.train.scenarios import quiet
from workers.nets.gan import Gan
from workers.nets.manifest import load_artifact
from workers.nets.table import build_net
from workers.nets.validation import InvalidConfig
from workers.train.configs import GANOptions, OptimizerOptions
from workers.train.data import load_images, unit_range
from workers.train.evidence import gan
from workers.train.evidence.judge import one_by_one
from workers.train.export import export
from workers.train.fid import Judge, fit_judge, frechet_distance
from workers.train.report import Fact, Finished, Samples, Warned
from workers.train.trainers import GANTrainer

#: The loss, the discriminator's norm, and further options.
GAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "non_saturating": ("batch", {}),
    "least_squares": ("batch", {}),
    "hinge": ("spectral", {}),
    "wasserstein_gp": ("none", {"n_critic": 2}),
}
RATE = 1e-3


def made(
    folder: Path, net: dict[str, Any], options: GANOptions, *, rows: int = 2000, **more: Any
) -> GANTrainer:
    digits = load_images("mnist").part(rows, 500)
    torch.manual_seed(more.pop("seed", 0))
    return GANTrainer(
        build_net("gan", {"width": 16, "latent_dim": 32, "hidden": 64, **net}),
        quiet(folder, metric=None, batch_size=32, lr=RATE, eval_strategy="no", lr_scheduler_type="constant"),
        (unit_range(digits.train_x), digits.train_y),
        (unit_range(digits.test_x), digits.test_y),
        options=options,
        **more,
    )


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.set_num_threads(1)
    digits = load_images("mnist").part(2000, 500)
    return fit_judge(unit_range(digits.train_x), digits.train_y, num_epochs=4)


def beats_pixels_one_by_one(trainer: GANTrainer, judge: Judge) -> bool:
    """Whether its pictures are nearer to real ones than those that have only every pixel's distribution."""
    digits = load_images("mnist").part(2000, 500)
    real = judge.of(unit_range(digits.test_x))
    others = judge.of(one_by_one(unit_range(digits.train_x), 500))
    return frechet_distance(judge.of(trainer.sample(500)), real) < frechet_distance(others, real)


@pytest.mark.goal
def test_the_non_saturating_loss_meets_the_goals_of_the_report() -> None:
    assert {} == missed_goals(gan.rows, "gan non-saturating mnist", options={"max_steps": 800})


@pytest.mark.parametrize("loss", GAMES)
def test_every_loss_gets_close_to_real_digits_shows_them_and_is_exported(
    loss: Any, judge: Judge, tmp_path: Path
) -> None:
    said: list[Fact] = []
    norm, more = GAMES[loss]
    options = GANOptions(loss=loss, max_steps=150, fid_samples=500, num_samples=16, **more)
    trainer = made(tmp_path, {"discriminator_norm": norm}, options, judge=judge, report=said.append)

    trainer.train()
    logs = trainer.evaluate()

    assert beats_pixels_one_by_one(trainer, judge)
    assert logs["eval_fid"] > 0
    assert {"eval_classes_missing", "eval_class_entropy"} <= logs.keys()
    assert ["samples"] == [fact.name for fact in said if isinstance(fact, Samples)]
    manifest = export(trainer, tmp_path / "artifact")
    rebuilt = load_artifact(tmp_path / "artifact")
    trainer.model.eval()
    digits = load_images("mnist").part(2000, 500)
    expected = trainer.net.encode(unit_range(digits.test_x[:5])).detach().numpy()
    np.testing.assert_allclose(expected, rebuilt.embed(list(digits.test_x[:5])), atol=1e-6)
    assert not any(name.startswith("generator") for name in rebuilt.net.state_dict())
    assert rebuilt.net.dimension == manifest.dimension == expected.shape[1]


def test_a_conditional_generator_makes_the_class_that_it_is_asked_for(judge: Judge, tmp_path: Path) -> None:
    trainer = made(tmp_path, {"num_classes": 10}, GANOptions(max_steps=200))

    trainer.train()

    asked = torch.arange(300) % 10
    assert judge.accuracy(trainer.sample(300, asked), asked) > 0.5


@pytest.mark.parametrize(
    "options",
    [
        GANOptions(r1=0.2, r1_every=4, max_steps=150),
        GANOptions(augment=("color", "translation", "cutout"), max_steps=150),
    ],
    ids=["r1", "diff_augment"],
)
def test_penalties_and_augmentation_leave_room_to_learn(
    options: GANOptions, judge: Judge, tmp_path: Path
) -> None:
    norm = "none" if options.r1 else "batch"
    trainer = made(tmp_path, {"discriminator_norm": norm}, options)

    trainer.train()

    assert beats_pixels_one_by_one(trainer, judge)


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (64, 3)])
def test_pictures_of_every_size_are_made_and_scored(side: int, channels: int) -> None:
    net = build_net("gan", {"side": side, "channels": channels, "width": 4, "hidden": 8, "num_classes": 3})
    assert isinstance(net, Gan)
    classes = torch.tensor([0, 2])

    x = net(torch.randn(2, 64), classes)

    assert (2, channels, side, side) == x.shape
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    assert (2, 1) == net.discriminator(x, classes).shape
    assert (2, net.dimension) == net.encode(x).shape


def test_the_spectral_norm_bounds_every_layer(tmp_path: Path) -> None:
    trainer = made(tmp_path, {"discriminator_norm": "spectral"}, GANOptions(loss="hinge", max_steps=40))

    trainer.train()

    layers = [part for part in trainer.net.discriminator.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    norms = [float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) for layer in layers]
    assert all(0.8 < norm < 1.2 for norm in norms), norms


def test_the_discriminator_is_updated_n_critic_times_and_only_the_generator_counts_steps(
    tmp_path: Path,
) -> None:
    trainer = made(tmp_path, {}, GANOptions(n_critic=3, accumulate=2, max_steps=4), rows=200)

    trainer.train()

    updates = {
        name: {int(state["step"]) for state in network.optimizer.state.values()}
        for name, network in trainer.networks_by_name.items()
    }
    assert {"g": {4}, "d": {12}} == updates
    assert (4, 24) == (trainer.global_step, trainer.micro_step)


class Watching(GANTrainer):
    """Keeps the gradients that the generator's turn leaves in the discriminator."""

    left: list[Tensor | None]

    def update_networks(self, *names: str) -> None:
        if names == ("g",):
            self.left = [parameter.grad for parameter in self.net.discriminator.parameters()]
        super().update_networks(*names)


def test_the_generators_turn_leaves_no_gradient_in_the_discriminator(tmp_path: Path) -> None:
    net = build_net("gan", {"width": 4})
    trainer = Watching(net, quiet(tmp_path), torch.rand(32, 1, 28, 28), options=GANOptions(max_steps=2))

    trainer.train()

    assert trainer.left
    assert all(gradient is None for gradient in trainer.left)
    assert all(parameter.requires_grad for parameter in trainer.net.discriminator.parameters())


def test_without_a_judge_one_is_fitted_to_the_labelled_training_pictures(tmp_path: Path) -> None:
    trainer = made(tmp_path, {"width": 4}, GANOptions(max_steps=2, fid_samples=100, judge_epochs=6))
    digits = load_images("mnist").part(2000, 500)

    trainer.train()
    logs = trainer.evaluate()

    assert logs["eval_fid"] > 0
    assert trainer.judge is not None
    assert trainer.judge.accuracy(unit_range(digits.test_x), digits.test_y) > 0.9


def test_a_judge_can_not_be_fitted_without_labels(tmp_path: Path) -> None:
    x = torch.rand(32, 1, 28, 28)
    trainer = GANTrainer(build_net("gan"), quiet(tmp_path), x, x, options=GANOptions(fid_samples=10))

    with pytest.raises(ValueError, match="labels"):
        trainer.evaluate()


def test_every_evaluation_shows_the_same_latents(tmp_path: Path) -> None:
    said: list[Fact] = []
    options = GANOptions(max_steps=2, num_samples=4)
    trainer = made(tmp_path, {"width": 4}, options, rows=100, report=said.append)
    trainer.train()

    trainer.evaluate()
    trainer.evaluate()

    one, other = (fact.content for fact in said if isinstance(fact, Samples))
    assert one == other


@pytest.mark.parametrize(
    ("config", "options", "path"),
    [
        ({"discriminator_norm": "batch"}, {"loss": "wasserstein_gp"}, ("net", "discriminator_norm")),
        ({"discriminator_norm": "batch"}, {"r1": 1.0}, ("net", "discriminator_norm")),
        ({"num_outputs": 3}, {}, ("net", "num_outputs")),
    ],
)
def test_a_net_that_does_not_fit_the_game_is_refused(
    config: Any, options: Any, path: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfig) as found:
        GANTrainer(build_net("gan", config), quiet(tmp_path), options=GANOptions(**options))

    assert [path] == [problem.path for problem in found.value.problems]


def test_another_kind_of_net_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="a gan is needed"):
        GANTrainer(build_net("conv_classifier"), quiet(tmp_path))


def test_options_that_contradict_each_other_are_all_named(tmp_path: Path) -> None:
    options = GANOptions(
        loss="hinge",
        gradient_penalty=3.0,
        r1=1.0,
        precision="float16",
        compile="eager",
        augment=("color", "color"),
        fid_samples=1,
        collapse="ignore",
        collapse_after=3,
        ema={"generator": 0.9},
    )

    with pytest.raises(InvalidConfig) as found:
        GANTrainer(build_net("gan"), quiet(tmp_path), options=options)

    paths = [problem.path[1:] for problem in found.value.problems]
    assert [
        ("augment",), ("collapse_after",), ("compile",), ("ema", "generator"), ("fid_samples",),
        ("gradient_penalty",), ("precision",),
    ] == sorted(paths)  # fmt: skip


def _warned(said: list[Fact]) -> list[Warned]:
    return [fact for fact in said if isinstance(fact, Warned) and fact.code == "collapse"]


def _with_rates(times: float, **options: Any) -> GANOptions:
    betas = {"betas": [0.5, 0.999]}
    rates = {"g": RATE, "d": RATE * times}
    optimizers = {name: OptimizerOptions(lr=rate, arguments=betas) for name, rate in rates.items()}
    return GANOptions(optimizers=optimizers, **options)


@pytest.mark.parametrize("loss", ["non_saturating", "least_squares"])
def test_a_discriminator_with_fifty_times_the_rate_is_flagged_within_200_steps(
    loss: Any, tmp_path: Path
) -> None:
    said: list[Fact] = []
    options = _with_rates(50, loss=loss, max_steps=200, collapse="stop")
    trainer = made(tmp_path, {}, options, report=said.append)

    trainer.train()

    (alarm,) = _warned(said)
    assert alarm.step <= 200
    assert alarm.step == trainer.global_step
    assert ["asked"] == [fact.reason for fact in said if isinstance(fact, Finished)]


@pytest.mark.parametrize(
    ("loss", "seed"), [("non_saturating", 0), ("non_saturating", 1), *((loss, 2) for loss in list(GAMES)[1:])]
)
def test_a_healthy_run_raises_no_alarm(loss: Any, seed: int, tmp_path: Path) -> None:
    said: list[Fact] = []
    norm, more = GAMES[loss]
    options = _with_rates(1, loss=loss, max_steps=250, **more)
    trainer = made(tmp_path, {"discriminator_norm": norm}, options, seed=seed, report=said.append)

    trainer.train()

    assert [] == _warned(said)
