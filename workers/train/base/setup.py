"""Turning TrainingConfig into the things a run needs."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workers.nets.validation import InvalidConfig, Problem, check, convert
from workers.train._towhee import Callback, TrainingConfig
from workers.train.base.callbacks import PrintLogs, ProgressBar, ReportProgress, TensorBoard
from workers.train.base.distributed import Processes
from workers.train.base.metrics import make_metric
from workers.train.base.networks import optimizer_options, schedule_options
from workers.train.base.pauses import Pauses, Rhythm
from workers.train.configs import TrainerOptions, TrainingFields
from workers.train.report import Report, ignore

_OFF = (None, False, "no", "null", "None")
#: Steps between two pauses when several processes have to pause together.
_PAUSE_TOGETHER = 16


def check_training_config(configs: TrainingConfig, options: TrainerOptions) -> None:
    """Everything in Towhee's config that can be known to be wrong before training.

    Raises:
        InvalidConfig: with every problem and its field's path.
    """
    problems: list[Problem] = []
    for look in (
        lambda: convert(configs.to_dict(), TrainingFields),
        lambda: make_metric(configs.metric),
        lambda: make_loss(configs.loss),
        lambda: check(optimizer_options(configs, options, ""), ("optimizer",)),
        lambda: check(schedule_options(configs, options, ""), ("lr_scheduler_type",)),
    ):
        try:
            look()
        except InvalidConfig as error:
            problems += error.problems
        except KeyError:
            continue  # a dict without name_, which the first look has found
    if problems:
        raise InvalidConfig(_first_of_each(problems))


def _first_of_each(problems: list[Problem]) -> list[Problem]:
    """One problem a place: the rate, for example, is both a field and part of the optimizer."""
    found = {
        ("lr",) if problem.path == ("optimizer", "lr") else problem.path: problem
        for problem in reversed(problems)
    }
    return list(reversed(found.values()))


def make_device(configs: TrainingConfig, processes: Processes) -> torch.device:
    """The device of this process: ``cuda`` is its own GPU, and several GPUs take several processes."""
    wanted = configs.device_str
    if wanted in {None, "cuda"} and torch.cuda.is_available():
        return torch.device("cuda", processes.local_rank)
    return torch.device("cpu" if wanted is None else wanted)


def make_loss(wanted: str | Mapping[str, Any]) -> nn.Module:
    """A loss of torch.nn by name.

    Raises:
        InvalidConfig: torch has no such loss, or refuses the arguments.
    """
    name = wanted if isinstance(wanted, str) else wanted["name_"]
    arguments = (
        {} if isinstance(wanted, str) else {key: value for key, value in wanted.items() if key != "name_"}
    )
    kind = getattr(nn.modules.loss, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise InvalidConfig([Problem(("loss",), f"torch.nn has no loss {name!r}")])
    try:
        return kind(**arguments)
    except TypeError as error:
        raise InvalidConfig([Problem(("loss",), str(error))]) from error


def make_pauses(
    configs: TrainingConfig,
    options: TrainerOptions,
    *,
    batches_per_step: int,
    last_step: int | None,
    processes: Processes,
) -> Pauses:
    """When the loop has to look up."""
    given = configs.model_checkpoint if isinstance(configs.model_checkpoint, dict) else {}
    every = [given.get("every_n_iteration", -1), options.checkpoints.every_steps or -1]
    by_steps = configs.eval_strategy in {"step", "steps"}
    rhythm = Rhythm(
        batches_per_step,
        log_every_s=options.log_every_s,
        evaluate_every=configs.eval_steps if by_steps else None,
        checkpoint_every=tuple(steps for steps in every if steps > 0),
        print_every=configs.print_steps,
        checkpoint_every_s=options.checkpoints.every_s if processes.total == 1 else None,
        last_step=last_step,
        fixed=_PAUSE_TOGETHER if processes.total > 1 else None,
    )
    return Pauses(rhythm)


def make_callbacks(
    configs: TrainingConfig, report: Report, *, num_steps: int | None, steps_in_epoch: int | None
) -> list[Callback]:
    """The callbacks that TrainingConfig asks for, and the one that feeds ``report``."""
    made: list[Callback] = []
    num_epochs = -(-num_steps // steps_in_epoch) if num_steps and steps_in_epoch else configs.epoch_num
    if configs.print_steps is None:
        made.append(ProgressBar(num_epochs, steps_in_epoch))
    else:
        made.append(PrintLogs(num_epochs, configs.print_steps))
    if configs.tensorboard not in _OFF and isinstance(configs.tensorboard, Mapping):
        folder = configs.tensorboard.get("log_dir") or str(Path(configs.output_dir) / "runs")
        made.append(TensorBoard(Path(folder + configs.tensorboard.get("comment", ""))))
    if report is not ignore:
        made.append(ReportProgress(report, num_steps))
    return made


@contextlib.contextmanager
def running_deterministically(wanted: bool) -> Iterator[None]:
    """Only operations with a deterministic implementation, inside; the settings before come back."""
    if not wanted:
        yield
        return
    # cuBLAS reads it when its first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before[0])
        torch.backends.cudnn.benchmark = before[1]
