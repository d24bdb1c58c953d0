"""What the base trainer does beside learning."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.workers.train.scenarios import net, points, quiet
from workers.nets.validation import InvalidConfig
from workers.train._towhee import Callback
from workers.train.base import BaseTrainer, Step, TrainingDiverged
from workers.train.configs import CheckpointOptions, OptimizerOptions, ScheduleOptions, TrainerOptions
from workers.train.report import Evaluated, Fact, Finished, Progress


def trainer(folder: Path, options: TrainerOptions | None = None, **fields: Any) -> BaseTrainer:
    return BaseTrainer(net(), quiet(folder, **fields), points(), points(48), options=options)


def test_everything_wrong_with_a_config_is_said_at_once(tmp_path: Path) -> None:
    wrong = {"batch_size": 0, "lr": -1.0, "eval_strategy": "sometimes", "early_stopping": {"patience": 2}}
    made = trainer(tmp_path, loss="Nonsense", optimizer="Nothing", metric="None of these", **wrong)

    with pytest.raises(InvalidConfig) as found:
        made.train()

    assert {
        ("batch_size",),
        ("lr",),
        ("eval_strategy",),
        ("early_stopping", "monitor"),
        ("metric",),
        ("loss",),
        ("optimizer", "name"),
    } == {problem.path for problem in found.value.problems}


def test_options_are_checked_with_their_paths(tmp_path: Path) -> None:
    options = TrainerOptions(accumulate=0, optimizers={"main": OptimizerOptions(name="Nope")})

    with pytest.raises(InvalidConfig) as found:
        trainer(tmp_path, options)

    assert [("options", "accumulate"), ("options", "optimizers", "main", "name")] == [
        problem.path for problem in found.value.problems
    ]


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_step_and_checkpoint(tmp_path: Path) -> None:
    class Poisoned(BaseTrainer):
        def forward_step(self, model: nn.Module, batch: Any) -> Step:
            step = super().forward_step(model, batch)
            return step._replace(loss=step.loss * math.nan) if self.micro_step == 16 else step

    made = Poisoned(
        net(), quiet(tmp_path), points(), options=TrainerOptions(checkpoints=CheckpointOptions(every_steps=5))
    )

    with pytest.raises(TrainingDiverged) as found:
        made.train()

    assert (17, tmp_path / "step_15") == (found.value.step, found.value.checkpoint)
    assert all(weight.isfinite().all() for weight in _weights(tmp_path / "step_15").values())


def test_a_weight_that_is_not_a_number_never_gets_into_a_checkpoint(tmp_path: Path) -> None:
    class Exploding(Callback):
        def on_train_batch_end(self, batch: Any, logs: dict[str, Any]) -> None:
            if logs["global_step"] == 10:
                with torch.no_grad():
                    next(self.model.parameters()).fill_(math.inf)

    made = trainer(
        tmp_path, TrainerOptions(checkpoints=CheckpointOptions(every_steps=5)), model_checkpoint=None
    )
    made.add_callback(Exploding())

    with pytest.raises(TrainingDiverged, match=r"step 10; the last good checkpoint is .*step_5"):
        made.train()


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file  # noqa: PLC0415

    return load_file(folder / "model.safetensors")


def test_accumulated_batches_are_one_big_batch(tmp_path: Path) -> None:
    def weights(batch_size: int, accumulate: int) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
        options = TrainerOptions(accumulate=accumulate)
        made = BaseTrainer(
            model, quiet(tmp_path / f"{batch_size}", batch_size=batch_size), points(), options=options
        )
        made.train()
        assert 20 == made.global_step
        return [parameter.detach() for parameter in model.parameters()]

    for one, other in zip(weights(32, 1), weights(8, 4), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_gradients_are_clipped_to_their_greatest_norm(tmp_path: Path) -> None:
    def moved(clip: float | None) -> float:
        model = nn.Linear(8, 3)
        nn.init.zeros_(model.weight)
        options = TrainerOptions(max_steps=1, grad_clip=clip)
        fields = {"optimizer": "SGD", "lr": 1.0, "lr_scheduler_type": "constant"}
        made = BaseTrainer(model, quiet(tmp_path / str(clip), **fields), points(), options=options)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        made.train()
        change = [(now - then).square().sum() for now, then in zip(model.parameters(), before, strict=True)]
        return math.sqrt(sum(float(part) for part in change))

    assert moved(None) > 0.5
    assert math.isclose(0.01, moved(0.01), rel_tol=1e-4)


def test_the_average_of_the_weights_is_what_is_evaluated(tmp_path: Path) -> None:
    made = trainer(tmp_path, TrainerOptions(ema=0.95), eval_strategy="no")
    made.train()
    raw = [parameter.detach().clone() for parameter in made.model.parameters()]

    with made.averaged_weights():
        averaged = [parameter.detach().clone() for parameter in made.model.parameters()]
        x, y = points(48)
        made.model.eval()
        with torch.no_grad():
            expected = float(nn.functional.cross_entropy(made.model(x), y))

    assert any(not torch.equal(one, other) for one, other in zip(raw, averaged, strict=True))
    assert all(torch.equal(one, now) for one, now in zip(raw, made.model.parameters(), strict=True))
    assert math.isclose(expected, made.evaluate()["eval_epoch_loss"], rel_tol=1e-6)


def test_evaluation_and_prediction_leave_no_trace(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.model.train()
    random_state = torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}

    found = made.evaluate()
    outputs = made.predict(points(48)[0])

    assert made.model.training
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in made.model.state_dict().items())
    accuracy = float((outputs.argmax(1) == points(48)[1]).float().mean())
    assert math.isclose(accuracy, found["eval_epoch_metric"], rel_tol=1e-6)


@pytest.mark.parametrize(("limit", "reason"), [("max_steps", "max_steps"), ("max_seconds", "max_seconds")])
def test_a_run_ends_at_its_limit(tmp_path: Path, limit: str, reason: str) -> None:
    said: list[Fact] = []
    options = TrainerOptions(**{limit: 7 if limit == "max_steps" else 0.001})
    made = BaseTrainer(net(), quiet(tmp_path, epoch_num=10**6), points(), options=options, report=said.append)

    made.train()

    assert [reason] == [fact.reason for fact in said if isinstance(fact, Finished)]
    assert limit != "max_steps" or made.global_step == 7


def test_early_stopping_waits_for_the_warm_up(tmp_path: Path) -> None:
    stopping = {"monitor": "eval_epoch_loss", "mode": "min", "patience": 2}
    fields = {"early_stopping": stopping, "epoch_num": 30, "lr": 1e-12, "lr_scheduler_type": "constant"}
    frozen = {"optimizer": "SGD"}

    def epochs(waits: int) -> int:
        options = TrainerOptions(early_stopping_waits=waits)
        made = trainer(tmp_path / str(waits), options, **fields, **frozen)
        made.model[1].momentum = 0.0  # batch statistics would make it better
        made.train()
        assert "early_stopping" == made.finish_reason
        return made.epoch

    at_once, later = epochs(0), epochs(100)

    assert later == at_once + 9  # ten steps an epoch: the first that counts is the tenth


def test_progress_is_told_first_and_last_and_evaluations_in_between(tmp_path: Path) -> None:
    said: list[Fact] = []
    made = BaseTrainer(net(), quiet(tmp_path), points(), points(48), report=said.append)

    made.train()

    progress = [fact for fact in said if isinstance(fact, Progress)]
    assert (1, 40, 40) == (progress[0].step, progress[-1].step, progress[-1].num_steps)
    assert len(progress) < 20
    assert [1, 2, 3, 4] == [fact.epoch for fact in said if isinstance(fact, Evaluated)]
    assert {"step_loss", "epoch_loss", "epoch_metric", "lr"} <= progress[-1].metrics.keys()


def test_the_metric_of_an_epoch_is_that_of_its_training_passes(tmp_path: Path) -> None:
    guesses: list[Tensor] = []
    wanted: list[Tensor] = []

    class Spy(BaseTrainer):
        def forward_step(self, model: nn.Module, batch: Any) -> Step:
            step = super().forward_step(model, batch)
            assert step.outputs is not None
            guesses.append(step.outputs.detach().argmax(1))
            wanted.append(batch[1])
            return step

    made = Spy(net(), quiet(tmp_path, epoch_num=1, eval_strategy="no"), points())
    made.train()

    expected = float((torch.cat(guesses) == torch.cat(wanted)).double().mean())
    assert math.isclose(expected, made.logs["epoch_metric"], rel_tol=1e-9)


def test_callbacks_of_towhee_work_and_see_numbers(tmp_path: Path, capsys: Any) -> None:
    from towhee.trainer.callback import EarlyStoppingCallback, PrintCallBack  # noqa: PLC0415  Towhee's own

    made = trainer(tmp_path, epoch_num=20, lr=1e-12, optimizer="SGD")
    made.add_callback(PrintCallBack(total_epoch_num=20, step_frequency=5))
    made.add_callback(
        EarlyStoppingCallback(made.trainercontrol, monitor="epoch_loss", mode="min", patience=1, min_delta=9)
    )
    made.train()

    assert "asked" == made.finish_reason
    assert "epoch=1/20, global_step=5, epoch_loss=" in capsys.readouterr().out


def test_an_operator_is_trained_through_its_trainer(tmp_path: Path) -> None:
    from towhee.operator import NNOperator  # noqa: PLC0415  Towhee's own

    class Operator(NNOperator):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = net()

        def __call__(self, x: Tensor) -> Tensor:
            return self.model(x)

    operator = Operator()
    operator.trainer = BaseTrainer(operator.model, quiet(tmp_path / "first"))
    operator.train(quiet(tmp_path / "second", epoch_num=3), torch.utils.data.TensorDataset(*points()))

    assert 30 == operator.trainer.global_step
    assert (tmp_path / "second" / "final_epoch").is_dir()


def test_a_trainer_written_for_towhee_still_trains(tmp_path: Path) -> None:
    class OldStyle(BaseTrainer):
        def compute_loss(self, model: nn.Module, inputs: Any) -> Tensor:
            return nn.functional.cross_entropy(model(inputs[0]), inputs[1], label_smoothing=0.1)

        def train_step(self, model: nn.Module, inputs: Any) -> dict[str, float]:
            loss = self.compute_loss(model, inputs)
            loss.backward()
            self.optimizer.step()
            self.lr_scheduler.step()
            self.optimizer.zero_grad()
            mean, metric = self.update_metrics(model, inputs, loss.detach())
            return {"step_loss": loss.item(), "epoch_loss": mean, "epoch_metric": metric}

    made = OldStyle(net(), quiet(tmp_path), points(), points(48))
    first = made.evaluate()["eval_epoch_loss"]
    made.train()

    assert made.logs["eval_epoch_loss"] < first


def test_a_plateau_lowers_the_rate_and_epochs_can_be_a_schedules_clock(tmp_path: Path) -> None:
    schedule = ScheduleOptions(
        name="ReduceLROnPlateau", arguments={"mode": "min", "patience": 0, "threshold": 10.0}
    )
    made = trainer(tmp_path / "a", TrainerOptions(schedules={"main": schedule}))
    made.train()
    assert math.isclose(1e-6, made.networks_by_name["main"].lr)  # 1e-2, lowered after each of four epochs

    schedule = ScheduleOptions(name="StepLR", every="epoch", arguments={"step_size": 2, "gamma": 0.1})
    made = trainer(tmp_path / "b", TrainerOptions(schedules={"main": schedule}))
    made.train()
    assert math.isclose(1e-4, made.networks_by_name["main"].lr)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_learns_too(tmp_path: Path, precision: str) -> None:
    made = trainer(tmp_path, TrainerOptions(precision=precision, grad_clip=1.0))  # type: ignore[arg-type]
    first = made.evaluate()["eval_epoch_loss"]
    made.train()

    assert made.logs["eval_epoch_loss"] < 0.9 * first
    assert all(parameter.dtype == torch.float32 for parameter in made.model.parameters())


def test_a_compiled_model_learns_the_same(tmp_path: Path) -> None:
    plain, compiled = trainer(tmp_path / "a"), trainer(tmp_path / "b", TrainerOptions(compile="eager"))
    plain.train()
    compiled.train()

    assert sorted(plain.model.state_dict()) == sorted(_weights(tmp_path / "b" / "final_epoch"))
    for one, other in zip(plain.model.parameters(), compiled.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_deterministic_mode_refuses_what_is_not_and_ends_with_the_run(tmp_path: Path) -> None:
    seen: list[bool] = []

    class Look(Callback):
        def on_train_begin(self, logs: dict[str, Any]) -> None:
            seen.append(torch.are_deterministic_algorithms_enabled())

    made = trainer(tmp_path, TrainerOptions(deterministic=True, max_steps=1))
    made.add_callback(Look())
    made.train()

    assert ([True], False) == (seen, torch.are_deterministic_algorithms_enabled())
