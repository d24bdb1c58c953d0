"""Each defect of Towhee's own trainer, shown on Towhee's class, and that it is gone from ours.

Numbers are those of the list of defects. Towhee's metrics module can't be imported without torchmetrics
0.7.0; where a test has to get past it, a mean takes the place of its metrics, and nothing else of Towhee is
changed.
"""

import importlib
import math
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from tests.workers.train.scenarios import net, points, quiet
from workers.nets.validation import InvalidConfig
from workers.train._towhee import Callback, ModelCard
from workers.train._towhee import Trainer as TowheeTrainer
from workers.train.base import BaseTrainer
from workers.train.base.batches import to_device
from workers.train.base.metrics import METRICS
from workers.train.data import TEXT_SETS


class Mean:
    """What Towhee's trainer asks of a metric."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, value: torch.Tensor, *_: object) -> None:
        self.total += float(torch.as_tensor(value).float().mean())
        self.count += 1

    def compute(self) -> torch.Tensor:
        return torch.tensor(self.total / max(1, self.count))

    def to(self, *_: object) -> "Mean":
        return self


@pytest.fixture
def towhee(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Towhee's trainer module with means for metrics."""
    module = importlib.import_module("towhee.trainer.trainer")
    monkeypatch.setattr(module, "get_metric_by_name", lambda *_, **__: Mean())
    return module


def data(rows: int = 160) -> TensorDataset:
    return TensorDataset(*points(rows))


def theirs(folder: Path, model: nn.Module | None = None, **fields: Any) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return TowheeTrainer(model or net(), quiet(folder, **fields), data(), data(48))


def ours(folder: Path, model: nn.Module | None = None, **fields: Any) -> BaseTrainer:
    return BaseTrainer(model or net(), quiet(folder, **fields), data(), data(48))


def test_01_the_default_early_stopping_runs_on_numpy_2(
    towhee: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = {"monitor": "eval_epoch_metric", "patience": 4, "mode": "max"}
    # Behind our door Towhee's callback sees a NumPy with an Inf; without it, it sees NumPy.
    monkeypatch.setattr(sys.modules["towhee.trainer.callback"], "np", np)
    with pytest.raises(AttributeError, match="Inf"):
        theirs(tmp_path / "theirs", early_stopping=stopping).train()

    trainer = ours(tmp_path / "ours", early_stopping=stopping)
    trainer.train()

    assert 40 == trainer.global_step


def test_02_importing_the_trainer_starts_no_pip(tmp_path: Path) -> None:
    seen = "import os, sys; os.system = lambda c: print('RAN', c) or 1; "
    plain = [sys.executable, "-W", "ignore", "-c", seen + "import towhee.trainer"]
    guarded = [sys.executable, "-W", "ignore", "-c", seen + "from workers.train.base import BaseTrainer"]
    here = Path(__file__).parents[3]

    assert (
        "RAN pip install"
        in subprocess.run(plain, capture_output=True, text=True, cwd=here, check=False).stdout
    )
    assert "" == subprocess.run(guarded, capture_output=True, text=True, cwd=here, check=True).stdout


def test_03_a_loader_alone_is_enough(towhee: Any, tmp_path: Path) -> None:
    loader = DataLoader(data(), batch_size=16)
    with pytest.raises(AttributeError, match="train_dataset"):
        TowheeTrainer(net(), quiet(tmp_path), train_dataloader=loader).train()

    trainer = BaseTrainer(net(), quiet(tmp_path / "ours"), train_dataloader=loader)
    trainer.train()

    assert 40 == trainer.global_step


def test_04_a_linear_schedule_ends_at_zero(towhee: Any, tmp_path: Path) -> None:
    their_trainer = theirs(tmp_path / "theirs")
    their_trainer.train()
    assert their_trainer.lr_scheduler.get_last_lr()[0] > 0.9e-2

    trainer = ours(tmp_path / "ours")
    trainer.train()

    assert 0.0 == trainer.lr_scheduler.get_last_lr()[0]


def test_05_lr_is_the_rate_whatever_the_schedule(towhee: Any, tmp_path: Path) -> None:
    schedule = {"name_": "StepLR", "step_size": 1000}
    their_trainer = theirs(tmp_path / "theirs", lr_scheduler_type=schedule)
    their_trainer.train()
    assert 1e-3 == their_trainer.optimizer.param_groups[0]["lr"]

    trainer = ours(tmp_path / "ours", lr_scheduler_type=schedule)
    trainer.train()

    assert 1e-2 == trainer.optimizer.param_groups[0]["lr"]


def test_06_resuming_keeps_the_optimizer_the_schedule_and_the_step(towhee: Any, tmp_path: Path) -> None:
    def adam_steps(trainer: Any) -> float:
        return float(next(iter(trainer.optimizer.state.values()))["step"])

    theirs(tmp_path / "theirs", epoch_num=2, model_checkpoint={"every_n_epoch": 1}).train()
    their_trainer = theirs(tmp_path / "theirs")
    their_trainer.train(str(tmp_path / "theirs" / "epoch_2"))
    assert 20 == adam_steps(their_trainer)

    ours(tmp_path / "ours", epoch_num=2, model_checkpoint={"every_n_epoch": 1}).train()
    trainer = ours(tmp_path / "ours")
    trainer.train(str(tmp_path / "ours" / "epoch_2"))

    assert (40, 40) == (adam_steps(trainer), trainer.global_step)


class Silent(nn.Module):
    """Logits that depend on the mode, so that a wrong mode shows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 3)
        self.num_calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.num_calls += 1
        return self.linear(x)


def test_07_the_evaluation_loss_is_that_of_the_evaluation(towhee: Any, tmp_path: Path) -> None:
    def true_loss(trainer: Any) -> float:
        x, y = points(48)
        with torch.no_grad():
            return float(nn.functional.cross_entropy(trainer.model.eval()(x), y))

    seen: dict[str, float] = {}

    class Keep(Callback):
        def on_epoch_end(self, epochs: int, logs: dict[str, Any]) -> None:
            seen["loss"] = logs["eval_epoch_loss"]

    their_trainer = theirs(tmp_path / "theirs", Silent())
    their_trainer.add_callback(Keep())
    their_trainer.train()
    assert abs(true_loss(their_trainer) - seen["loss"]) > 1e-3

    trainer = ours(tmp_path / "ours", Silent())
    trainer.add_callback(Keep())
    trainer.train()

    assert math.isclose(true_loss(trainer), seen["loss"], rel_tol=1e-5)


def test_08_a_step_is_one_forward_pass(towhee: Any, tmp_path: Path) -> None:
    their_model, our_model = Silent(), Silent()
    theirs(tmp_path / "theirs", their_model, eval_strategy="no").train()
    assert 80 == their_model.num_calls

    ours(tmp_path / "ours", our_model, eval_strategy="no").train()

    assert 40 == our_model.num_calls


def test_09_a_step_does_not_wait_for_the_device(
    towhee: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [0]
    original = torch.Tensor.item

    def counted(tensor: torch.Tensor) -> Any:
        calls[0] += 1
        return original(tensor)

    monkeypatch.setattr(torch.Tensor, "item", counted)
    theirs(tmp_path / "theirs", eval_strategy="no", lr_scheduler_type="constant").train()
    assert calls[0] >= 80

    calls[0] = 0
    folds = [0]
    trainer = ours(tmp_path / "ours", eval_strategy="no", optimizer="SGD", lr_scheduler_type="constant")
    fold = trainer._fold

    def counted_fold() -> None:
        folds[0] += 1
        fold()

    monkeypatch.setattr(trainer, "_fold", counted_fold)
    trainer.train()

    assert 0 == calls[0]
    assert folds[0] < 30


def test_10_the_best_model_is_loaded_at_the_end(towhee: Any, tmp_path: Path) -> None:
    worst_last: dict[str, Any] = {"lr_scheduler_type": "constant", "load_best_model_at_end": True}

    def end_and_best(trainer: Any) -> tuple[float, float]:
        losses: list[float] = []

        class Spoil(Callback):
            def on_epoch_begin(self, epochs: int, logs: dict[str, Any]) -> None:
                if epochs == 4:
                    nn.init.constant_(trainer.model.linear.bias[:1], 50.0)

            def on_epoch_end(self, epochs: int, logs: dict[str, Any]) -> None:
                x, y = points(48)
                kept = trainer.model.training
                with torch.no_grad():
                    losses.append(float(nn.functional.cross_entropy(trainer.model.eval()(x), y)))
                trainer.model.train(kept)

        trainer.add_callback(Spoil())
        trainer.train()
        x, y = points(48)
        with torch.no_grad():
            return float(nn.functional.cross_entropy(trainer.model.eval()(x), y)), min(losses)

    stopping = {"monitor": "eval_epoch_loss", "mode": "min", "patience": 100}
    end, best = end_and_best(theirs(tmp_path / "theirs", Silent(), early_stopping=stopping, **worst_last))
    assert end > best

    end, best = end_and_best(ours(tmp_path / "ours", Silent(), early_stopping=stopping, **worst_last))

    assert math.isclose(end, best, rel_tol=1e-5)


def test_11_checkpoints_by_iteration_come_when_and_where_asked(towhee: Any, tmp_path: Path) -> None:
    their_folder, our_folder = tmp_path / "their files", tmp_path / "our files"
    wanted = {"every_n_iteration": 25}
    theirs(tmp_path / "theirs", model_checkpoint={**wanted, "filepath": str(their_folder)}).train()
    assert not their_folder.exists()

    ours(tmp_path / "ours", model_checkpoint={**wanted, "filepath": str(our_folder)}).train()

    assert ["final_epoch", "step_25"] == sorted(path.name for path in our_folder.iterdir())


class StopNow(Callback):
    """Asks for an end at the first epoch's end."""

    def __init__(self, trainer: Any) -> None:
        super().__init__()
        self._trainer = trainer

    def on_epoch_end(self, epochs: int, logs: dict[str, Any]) -> None:
        self._trainer.trainercontrol.should_training_stop = True


def test_12_an_epoch_that_is_the_last_is_saved(towhee: Any, tmp_path: Path) -> None:
    for name, make in (("theirs", theirs), ("ours", ours)):
        trainer = make(tmp_path / name, model_checkpoint={"every_n_epoch": 1})
        trainer.add_callback(StopNow(trainer))
        trainer.train()

    assert ["final_epoch"] == sorted(path.name for path in (tmp_path / "theirs").iterdir())
    assert ["epoch_1", "final_epoch"] == sorted(path.name for path in (tmp_path / "ours").iterdir())


def test_13_output_folders_are_made_with_their_parents(towhee: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TowheeTrainer(net(), quiet(tmp_path / "a" / "b"), data())

    trainer = BaseTrainer(net(), quiet(tmp_path / "c" / "d"), data())
    trainer.configs = quiet(tmp_path / "e" / "f", epoch_num=1)  # as NNOperator.train does the second time
    trainer.train()

    assert (tmp_path / "e" / "f" / "final_epoch" / "README.md").is_file()


def test_14_a_model_card_names_several_data_sets(towhee: Any, tmp_path: Path) -> None:
    card = ModelCard(model_name="both", datasets=["digits", "letters"])
    with pytest.raises(AttributeError, match="dataset"):
        card.save_model_card(tmp_path / "card.md")

    trainer = BaseTrainer(net(), quiet(tmp_path / "ours"), data(), model_card=card)
    trainer.train()
    written = (tmp_path / "ours" / "final_epoch" / "README.md").read_text()

    assert "- digits\n- letters" in written


class Endless(IterableDataset[Any]):
    """Three batches' worth of rows that nobody knows the number of."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter(zip(*points(48), strict=True))


def test_15_iterable_data_can_be_trained_on(towhee: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shuffle"):
        TowheeTrainer(net(), quiet(tmp_path), Endless()).train()

    trainer = BaseTrainer(net(), quiet(tmp_path / "ours", lr_scheduler_type="constant"), Endless())
    trainer.train()

    assert 12 == trainer.global_step


class Dicts(Dataset[Any]):
    """Rows as dicts."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        x, y = points(64)
        return {"x": x[row], "labels": y[row]}


def test_16_batches_may_be_dicts(towhee: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        TowheeTrainer(net(), quiet(tmp_path), Dicts()).train()

    trainer = BaseTrainer(net(), quiet(tmp_path / "ours"), Dicts())
    trainer.train()

    assert 16 == trainer.global_step


def test_17_metrics_are_built_by_name_with_arguments_or_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Towhee's metrics.py itself, over a torchmetrics whose classes only remember their arguments.
    class Anything(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            return type(name, (), {"to": lambda metric, *_: metric})

    for name in ("torchmetrics", "torchmetrics.detection", "torchmetrics.detection.map"):
        monkeypatch.setitem(sys.modules, name, Anything(name))
    towhee_folder = Path(importlib.import_module("towhee").__file__ or "").parent
    spec = importlib.util.spec_from_file_location("their_metrics", towhee_folder / "trainer" / "metrics.py")
    assert spec is not None
    assert spec.loader is not None
    metrics = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(metrics)
    monkeypatch.setattr(
        sys.modules["towhee.trainer.trainer"], "get_metric_by_name", metrics.get_metric_by_name
    )
    for wanted in (None, {"name_": "Accuracy", "top_k": 2}):
        with pytest.raises((AssertionError, TypeError)):
            theirs(tmp_path / "theirs", metric=wanted).train()

    for wanted in (None, {"name_": "Accuracy", "top_k": 2}, *METRICS):
        if wanted not in ("MeanSquaredError", "MeanAbsoluteError"):
            ours(tmp_path / "ours", metric=wanted, epoch_num=1).train()
    with pytest.raises(InvalidConfig, match="metric: no metric 'Nonsense'; known are Accuracy"):
        ours(tmp_path / "ours", metric="Nonsense").train()


def test_18_the_progress_bar_takes_data_without_a_length(towhee: Any, tmp_path: Path, capsys: Any) -> None:
    batches = DataLoader(Endless(), batch_size=16)
    fields = {"print_steps": None, "lr_scheduler_type": "constant"}
    their_trainer = TowheeTrainer(net(), quiet(tmp_path, **fields), data(), train_dataloader=batches)
    with pytest.raises(TypeError, match="len"):
        their_trainer.train()

    BaseTrainer(net(), quiet(tmp_path / "ours", **fields), train_dataloader=batches).train()

    assert "3step" in capsys.readouterr().err


def test_19_a_packed_sequence_keeps_its_batch_sizes_in_main_memory(towhee: Any) -> None:
    packed = pack_sequence([torch.ones(3), torch.ones(2)])
    # The meta device stands for any that is not main memory.
    with pytest.raises(ValueError, match="batch_sizes should always be on CPU"):
        towhee.send_to_device(packed, torch.device("meta"))

    moved = to_device({"packed": packed}, torch.device("meta"))["packed"]

    assert ("cpu", "meta") == (moved.batch_sizes.device.type, moved.data.device.type)


def test_20_there_is_text_to_train_on_and_wrapped_data_evaluates(towhee: Any, tmp_path: Path) -> None:
    from towhee.data.dataset.dataset import TorchDataSet  # noqa: PLC0415  what users of Towhee wrap data in

    towhee_module = importlib.import_module("towhee")
    with pytest.raises((ImportError, KeyError)):
        towhee_module.dataset("imdb")
    wrapped = TorchDataSet(data(48))
    their_trainer = theirs(tmp_path / "theirs")
    their_trainer.eval_dataset = wrapped
    assert not isinstance(their_trainer.eval_dataset, Dataset)

    trainer = BaseTrainer(net(), quiet(tmp_path / "ours"), TorchDataSet(data()), wrapped)
    trainer.train()

    assert {"bbc_news", "movie_snippets", "spam_assassin", "names"} <= set(TEXT_SETS)
    assert isinstance(trainer.eval_dataset, Dataset)
    assert "eval_epoch_loss" in trainer.logs


def test_evaluation_leaves_batch_statistics_alone(towhee: Any, tmp_path: Path) -> None:
    def moved(trainer: Any) -> float:
        norm = trainer.model[1]
        before = norm.running_mean.clone()
        trainer.eval_dataset = TensorDataset(points(48)[0] + 100, points(48)[1])
        trainer.evaluate(trainer.model, {"epoch": 1, "global_step": 0, "eval_global_step": 0})
        return float((norm.running_mean - before).abs().max())

    their_trainer = theirs(tmp_path / "theirs")
    their_trainer.trainercontrol = types.SimpleNamespace()
    their_trainer.setup_before_train = their_trainer.setup_before_train
    their_trainer._create_loss()
    their_trainer._create_metric()
    assert moved(their_trainer) > 1

    assert 0.0 == moved(ours(tmp_path / "ours"))
