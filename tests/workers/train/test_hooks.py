"""What trainers with several networks, derived numbers or frozen layers find in the base."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from tests.workers.train.scenarios import net, points, quiet
from workers.train.base import BaseTrainer, Step, TrainingDiverged
from workers.train.base.distributed import average_gradients
from workers.train.configs import OptimizerOptions, ScheduleOptions, TrainerOptions
from workers.train.data.loaders import LoadPlan, Ragged, RaggedLoader


class Duel(BaseTrainer):
    """Two networks; the second gets two updates a step."""

    def networks(self) -> Mapping[str, nn.Module]:
        return dict(self.model.named_children())

    def batches_per_step(self) -> int:
        return 2

    def updates_per_step(self, name: str) -> int:
        return 2 if name == "critic" else 1

    def train_step(self, model: Any, inputs: Any) -> None:
        x, _ = inputs
        loss_critic = (model["critic"](x) - 1).square().mean()
        self.backward(loss_critic)
        self.update_networks("critic")
        loss = (model["actor"](x) - 2).square().mean()
        self.backward(loss / 2)
        if self.micro_step % 2:
            self.update_networks("actor")
        if self.micro_step == 10:
            loss_critic = loss_critic * self.poison
        self.tally.add(Step(loss.detach(), values={"loss_critic": loss_critic.detach()}))

    poison = 1.0


def duel(folder: Path, options: TrainerOptions | None = None) -> Duel:
    torch.manual_seed(0)
    nets = nn.ModuleDict({"actor": nn.Linear(8, 1), "critic": nn.Linear(8, 1)})
    return Duel(nets, quiet(folder, metric=None, epoch_num=2), points(), options=options)


def test_the_schedule_of_a_network_with_more_updates_counts_steps(tmp_path: Path) -> None:
    made = duel(tmp_path)
    rates: list[list[float]] = []
    made.look = lambda: rates.append([network.lr for network in made.networks_by_name.values()])  # type: ignore[method-assign]

    made.train()

    assert 10 == made.global_step
    assert [[0.0, 0.0]] == [[network.lr for network in made.networks_by_name.values()]]
    assert rates
    assert all(0 < one == other for one, other in rates[:-1])


def test_each_network_has_its_own_optimizer_clip_and_average(tmp_path: Path) -> None:
    options = TrainerOptions(
        optimizers={"actor": OptimizerOptions(name="SGD", lr=1.0), "critic": OptimizerOptions(name="AdamW")},
        schedules={"actor": ScheduleOptions(), "critic": ScheduleOptions(name="cosine")},
        grad_clip={"actor": 1e-3},
        ema={"critic": 0.5},
    )
    made = duel(tmp_path, options)
    before = [parameter.detach().clone() for parameter in made.model["actor"].parameters()]

    made.train()

    actor, critic = made.networks_by_name["actor"], made.networks_by_name["critic"]
    assert (torch.optim.SGD, torch.optim.AdamW) == (type(actor.optimizer), type(critic.optimizer))
    assert (1.0, 0.0) == (actor.lr, critic.lr)
    assert (True, False) == (actor.ema is None, critic.ema is None)
    moved = [
        (now - then).square().sum()
        for now, then in zip(made.model["actor"].parameters(), before, strict=True)
    ]
    # Ten steps, each as long as the clip lets it be.
    assert 0.005 < math.sqrt(float(sum(moved))) <= 0.010001


def test_a_further_loss_that_is_not_a_number_stops_the_run(tmp_path: Path) -> None:
    made = duel(tmp_path)
    made.poison = math.inf

    with pytest.raises(TrainingDiverged, match="the loss is inf in step 6"):
        made.train()


def test_every_network_of_several_is_compiled_and_learns_the_same(tmp_path: Path) -> None:
    plain, compiled = duel(tmp_path / "a"), duel(tmp_path / "b", TrainerOptions(compile="eager"))
    plain.train()
    compiled.train()

    assert all(module._compiled_call_impl is not None for module in compiled.networks().values())
    for one, other in zip(plain.model.parameters(), compiled.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_derived_numbers_are_logged_for_training_and_evaluation(tmp_path: Path) -> None:
    class Perplexed(BaseTrainer):
        def derived(self, means: Mapping[str, float]) -> dict[str, float]:
            return {"perplexity": math.exp(means["epoch_loss"])}

    made = Perplexed(net(), quiet(tmp_path, epoch_num=1), points(), points(48))
    made.train()

    assert math.exp(made.logs["epoch_loss"]) == made.logs["perplexity"]
    assert math.exp(made.logs["eval_epoch_loss"]) == made.logs["eval_perplexity"]


def test_frozen_parameters_get_no_gradient_from_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    frozen, unused = nn.Parameter(torch.ones(2), requires_grad=False), nn.Parameter(torch.ones(2))

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        average_gradients([frozen, unused], 1)
    finally:
        dist.destroy_process_group()

    assert frozen.grad is None
    assert [0.0, 0.0] == unused.grad.tolist()  # type: ignore[union-attr]  # it has one now


def test_prediction_takes_what_training_takes(tmp_path: Path) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            out: Tensor = self.head(x * scale)
            return out

    x, y = points()
    made = BaseTrainer(
        Named(), quiet(tmp_path, epoch_num=1), {"x": x, "scale": torch.ones(160, 1), "labels": y}
    )
    made.train()

    assert (5, 3) == made.predict({"x": x[:5], "scale": torch.ones(5, 1)}).shape


def test_a_transform_leaves_the_order_of_all_processes_the_same() -> None:
    """It may draw by the length of its own batch, which differs between processes."""
    rows = Ragged.of([list(range(1, 2 + at % 7)) for at in range(40)])

    def draw(batch: Any, generator: torch.Generator) -> Any:
        torch.rand(batch["x"].shape, generator=generator)
        return batch

    seen: list[list[int]] = []
    for rank in (0, 1):
        loader = RaggedLoader(
            {"x": rows, "row": torch.arange(40)},
            LoadPlan(4, rank=rank, world_size=2),
            transform=draw,
        )
        list(loader)
        seen.append([row for batch in loader for row in batch["row"].tolist()])

    assert list(range(40)) == sorted(seen[0] + seen[1])
