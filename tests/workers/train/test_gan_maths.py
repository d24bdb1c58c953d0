"""Losses, penalties, distances and augmentation of adversarial nets, against what is known in closed form."""

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F  # noqa: N812  torch's own abbreviation
from torch import Tensor

from workers.train.collapse import WINDOW, CollapseWatch
from workers.train.data import load_images, unit_range
from workers.train.data.differentiable import DIFFERENTIABLE, differentiable
from workers.train.fid import FeatureSums, Moments, fit_judge, frechet_distance
from workers.train.losses.adversarial import ADVERSARIAL, gradient_penalty, r1_penalty

REAL, FAKE = torch.tensor([[2.0], [-0.5]]), torch.tensor([[0.3], [-3.0]])


def test_the_non_saturating_losses_are_cross_entropies_of_a_coin() -> None:
    found = ADVERSARIAL["non_saturating"]
    real = F.binary_cross_entropy_with_logits(REAL, torch.ones_like(REAL))
    fake = F.binary_cross_entropy_with_logits(FAKE, torch.zeros_like(FAKE))
    wanted = F.binary_cross_entropy_with_logits(FAKE, torch.ones_like(FAKE))

    torch.testing.assert_close(real + fake, found.discriminator(REAL, FAKE))
    torch.testing.assert_close(wanted, found.generator(FAKE))


@pytest.mark.parametrize(
    ("loss", "expected_d", "expected_g"),
    [
        ("least_squares", 0.5 * ((1 + 2.25) / 2 + (0.09 + 9) / 2), 0.5 * (0.49 + 16) / 2),
        ("hinge", (0 + 1.5) / 2 + (1.3 + 0) / 2, 2.7 / 2),
        ("wasserstein_gp", -2.7 / 2 - 1.5 / 2, 2.7 / 2),
    ],
)
def test_the_other_losses_are_what_their_papers_write(
    loss: str, expected_d: float, expected_g: float
) -> None:
    found = ADVERSARIAL[loss]

    assert expected_d == pytest.approx(float(found.discriminator(REAL, FAKE)))
    assert expected_g == pytest.approx(float(found.generator(FAKE)))


def test_the_penalties_of_a_linear_score_are_known() -> None:
    slope = torch.tensor([3.0, 0.0, -4.0], requires_grad=True)

    def score(x: Tensor) -> Tensor:
        return x @ slope

    real, fake = torch.rand(6, 3), torch.rand(6, 3)
    gp, r1 = gradient_penalty(score, real, fake, torch.rand(6)), r1_penalty(score, real)
    (gradient,) = torch.autograd.grad(r1, slope)

    assert 16 == pytest.approx(float(gp))
    assert 12.5 == pytest.approx(float(r1))
    torch.testing.assert_close(slope.detach(), gradient)


def test_the_gradient_penalty_looks_between_real_and_generated_ones() -> None:
    """Of x squared the slope is 2x: with shares 0 and 1 it is that of the two ends."""
    real, fake = torch.full((2, 1), 3.0), torch.full((2, 1), 1.0)

    found = gradient_penalty(lambda x: x.square(), real, fake, torch.tensor([0.0, 1.0]))

    assert ((2 - 1) ** 2 + (6 - 1) ** 2) / 2 == pytest.approx(float(found))


def test_the_frechet_distance_is_that_of_the_formula_with_a_matrix_root() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    one = torch.randn(400, 5, generator=generator, dtype=torch.float64) @ mix + 1
    other = torch.randn(300, 5, generator=generator, dtype=torch.float64)
    sums = [Moments(5), Moments(5)]
    for moments, rows in zip(sums, (one, other), strict=True):
        for part in torch.split(rows, 130):
            moments.add(part)

    covariances = [np.cov(rows.numpy(), rowvar=False) for rows in (one, other)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    apart = float((one.mean(0) - other.mean(0)).square().sum())
    expected = apart + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert expected == pytest.approx(frechet_distance(*sums), rel=1e-9)
    assert 0 == pytest.approx(frechet_distance(sums[0], sums[0]), abs=1e-9)


def test_classes_that_are_hardly_ever_seen_are_missing() -> None:
    sums = FeatureSums(2, 4)
    classes = torch.tensor([0] * 60 + [1] * 38 + [2] * 2)

    sums.see(torch.rand(100, 2), F.one_hot(classes, 4).float())

    assert 2 == sums.num_missing
    share = np.array([0.6, 0.38, 0.02])
    assert -(share * np.log2(share)).sum() == pytest.approx(sums.class_entropy)


def test_the_same_data_give_the_same_judge_and_leave_no_trace() -> None:
    digits = load_images("digits")
    x, y = unit_range(digits.train_x), digits.train_y
    before = torch.get_rng_state()

    one, other = (fit_judge(x, y, num_epochs=24) for _ in range(2))

    assert torch.equal(before, torch.get_rng_state())
    for mine, theirs in zip(one.net.parameters(), other.net.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert one.accuracy(unit_range(digits.test_x), digits.test_y) > 0.93


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_pass_through_every_augmentation(name: str) -> None:
    x = torch.rand(8, 3, 16, 16, requires_grad=True)

    changed = differentiable(x, [name])
    changed.sum().backward()  # type: ignore[no-untyped-call]  # torch's own

    assert changed.shape == x.shape
    assert not torch.equal(changed, x)
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0


def test_a_translation_moves_all_of_a_picture_by_whole_pixels() -> None:
    x = torch.zeros(64, 1, 16, 16)
    x[:, :, 8, 8] = 1

    moved = differentiable(x, ["translation"]).flatten(1)

    assert torch.equal(torch.ones(64), moved.sum(1))
    places = moved.argmax(1)
    rows, columns = places // 16 - 8, places % 16 - 8
    assert (-2, 2, -2, 2) == (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max()))


def test_a_cut_takes_a_square_of_half_the_side_at_most() -> None:
    left = differentiable(torch.ones(200, 1, 16, 16), ["cutout"]).sum((1, 2, 3))

    assert 16 * 16 - 8 * 8 == int(left.min())
    assert int(left.max()) < 16 * 16


def _pictures(rows: int) -> Tensor:
    return unit_range(load_images("digits").train_x[:rows])


def test_a_generator_that_repeats_one_picture_is_told_once_until_it_is_well_again() -> None:
    real, watch = _pictures(64), CollapseWatch(after=WINDOW)
    same, well = real[:1].expand_as(real), real.flip(0)
    told = []
    for window, fake in enumerate([same, same, same, well, same], start=1):
        for _ in range(WINDOW):
            full = watch.add(real, fake)
        assert full
        told.append(watch.look(window * WINDOW) is not None)

    assert [False, True, False, False, True] == told


def test_a_generator_that_is_one_average_picture_away_is_seen_as_that() -> None:
    real, watch = _pictures(64), CollapseWatch(after=0)
    for _ in range(WINDOW):
        watch.add(real, real.mean(0, keepdim=True).expand_as(real))

    watch.look(WINDOW)

    assert watch.last is not None
    assert 1 == pytest.approx(watch.last.distance, rel=1e-6)
    assert 0 == pytest.approx(watch.last.spread, abs=1e-9)


def test_pictures_that_are_no_numbers_are_a_collapse() -> None:
    watch = CollapseWatch(after=0)
    watch.add(_pictures(8), torch.full((8, 1, 8, 8), torch.nan))

    assert watch.look(WINDOW) is not None


def test_a_watch_goes_on_where_another_one_was() -> None:
    real = _pictures(32)
    whole, first = CollapseWatch(after=0), CollapseWatch(after=0)
    second = CollapseWatch(after=0)
    for _ in range(10):
        whole.add(real, real / 2)
        first.add(real, real / 2)
    second.load_state_dict(first.state_dict())
    for _ in range(WINDOW - 10):
        full = (whole.add(real, real / 3), second.add(real, real / 3))

    assert (True, True) == full
    whole.look(WINDOW)
    second.look(WINDOW)
    assert whole.last == second.last
