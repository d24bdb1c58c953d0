"""Named networks, each with its optimizer, learning rate, clipping and average."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn, optim

from workers.nets.validation import InvalidConfig, Problem
from workers.train._towhee import TrainingConfig
from workers.train.base import distributed
from workers.train.base.ema import Ema
from workers.train.base.schedules import LearningRate, make_schedule
from workers.train.configs import OptimizerOptions, ScheduleOptions, TrainerOptions

#: The name of the network of a trainer that has just one.
MAIN = "main"
_TOWHEE_LR = 5e-5


class Network:
    """A module under training. ``step()`` is one update of it."""

    def __init__(
        self, name: str, module: nn.Module, optimizer: optim.Optimizer, *, clip: float | None
    ) -> None:
        self.name = name
        self.module = module
        self.optimizer = optimizer
        self.schedule: LearningRate | None = None
        self.schedule_every = "step"
        self.ema: Ema | None = None
        self.num_processes = 1
        self.updates_per_step = 1
        self._num_updates = 0
        self._clip = clip
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._steps_schedule = False

    def set_schedule(self, schedule: LearningRate, every: str, *, moves: bool) -> None:
        """Let the learning rate follow ``schedule``; one that never moves costs nothing."""
        self.schedule = schedule
        self.schedule_every = every
        self._steps_schedule = moves and every == "step" and not _is_plateau(schedule)

    def step(self, scaler: torch.amp.GradScaler | None = None) -> None:
        """Average over processes, clip, update, forget the gradients; move the rate and the average."""
        optimizer = self.optimizer
        if self.num_processes > 1:
            distributed.average_gradients(self._parameters, self.num_processes)
        if self._clip is not None:
            if scaler is not None:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self._parameters, self._clip)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
        optimizer.zero_grad()
        if self._steps_schedule and self.schedule is not None:
            self._num_updates += 1
            if self._num_updates % self.updates_per_step == 0:
                self.schedule.step()
        if self.ema is not None:
            self.ema.update()

    def epoch_ended(self, watched: float | None) -> None:
        """Move a learning rate that goes by epochs, or by how well it went."""
        if self.schedule is None:
            return
        if _is_plateau(self.schedule):
            if watched is not None:
                self.schedule.step(watched)  # type: ignore[call-arg]  # a plateau schedule wants the value
        elif self.schedule_every == "epoch":
            self.schedule.step()

    @property
    def lr(self) -> float:
        """The learning rate of the first group now."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Optimizer, schedule, average and gradients that were not used yet."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "num_updates": self._num_updates,
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "gradients": [parameter.grad for parameter in self._parameters],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.optimizer.load_state_dict(state["optimizer"])
        self._num_updates = state["num_updates"]
        if self.schedule is not None and state["schedule"] is not None:
            self.schedule.load_state_dict(state["schedule"])
        if self.ema is not None and state["ema"] is not None:
            self.ema.load_state_dict(state["ema"])
        for parameter, gradient in zip(self._parameters, state["gradients"], strict=True):
            parameter.grad = None if gradient is None else gradient.to(parameter)


def _is_plateau(schedule: LearningRate) -> bool:
    return isinstance(schedule, optim.lr_scheduler.ReduceLROnPlateau)


def optimizer_options(configs: TrainingConfig, options: TrainerOptions, name: str) -> OptimizerOptions:
    """What the optimizer of one network shall be: its own entry, else TrainingConfig's.

    TrainingConfig.lr is the rate wherever nothing else was said; a rate inside TrainingConfig.optimizer is
    used when TrainingConfig.lr was left at Towhee's default.
    """
    own = options.optimizers.get(name)
    if own is not None:
        return (
            own
            if own.lr is not None
            else OptimizerOptions(name=own.name, lr=configs.lr, arguments=own.arguments)
        )
    given = configs.optimizer
    if not isinstance(given, Mapping):
        return OptimizerOptions(name=str(given), lr=configs.lr)
    arguments = {key: value for key, value in given.items() if key not in {"name_", "lr"}}
    lr = given["lr"] if configs.lr == _TOWHEE_LR and "lr" in given else configs.lr
    return OptimizerOptions(name=given["name_"], lr=lr, arguments=arguments)


def schedule_options(configs: TrainingConfig, options: TrainerOptions, name: str) -> ScheduleOptions:
    """What the schedule of one network shall be: its own entry, else TrainingConfig's."""
    own = options.schedules.get(name)
    if own is not None:
        return own
    given = configs.lr_scheduler_type
    if isinstance(given, Mapping):
        return ScheduleOptions(
            name=given["name_"], arguments={k: v for k, v in given.items() if k != "name_"}
        )
    return ScheduleOptions(
        name=str(given), warmup_steps=configs.warmup_steps, warmup_ratio=configs.warmup_ratio
    )


def make_optimizer(
    wanted: OptimizerOptions, groups: Sequence[Mapping[str, Any]], name: str
) -> optim.Optimizer:
    """An optimizer of torch.optim by name.

    Raises:
        InvalidConfig: torch has no such class or it refuses the arguments.
    """
    path = ("optimizers", name)
    kind = getattr(optim, wanted.name, None)
    if not (isinstance(kind, type) and issubclass(kind, optim.Optimizer)):
        raise InvalidConfig([Problem((*path, "name"), f"torch.optim has no optimizer {wanted.name!r}")])
    try:
        return kind([dict(group) for group in groups], lr=wanted.lr, **wanted.arguments)  # type: ignore[call-arg]
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidConfig([Problem((*path, "arguments"), str(error))]) from error


def by_name(value: float | Mapping[str, float] | None, name: str) -> float | None:
    """An option that is one number for all networks or one by name."""
    return value.get(name) if isinstance(value, Mapping) else value


def attach_schedules(
    networks: Iterable[Network], configs: TrainingConfig, options: TrainerOptions, num_steps: int | None
) -> None:
    """Give every network its schedule over ``num_steps`` steps (None when nobody knows)."""
    for network in networks:
        wanted = schedule_options(configs, options, network.name)
        num_updates = num_steps if wanted.every == "step" else configs.epoch_num
        schedule, moves = make_schedule(network.optimizer, wanted, num_updates)
        network.set_schedule(schedule, wanted.every, moves=moves)
