"""What every trainer can be told beyond Towhee's TrainingConfig, and that config itself as checked fields.

A struct of this package is checked as a whole: `workers.nets.validation.convert` names every mistake with its
path.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from torch import optim

from workers.nets.validation import Problem

Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Rate = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
PositiveSeconds = Annotated[float, Meta(gt=0)]

#: The schedules of `workers.train.base.schedules`; any class of torch.optim.lr_scheduler may be named as
# well.
SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup")
EVAL_STRATEGIES = ("no", "null", "None", "step", "steps", "epoch", "eval_epoch")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The base of all option structs: frozen, by keyword, and nothing unknown goes through."""


class OptimizerOptions(Options, frozen=True):
    """One named optimizer: a class of torch.optim with its arguments. ``lr`` None means TrainingConfig's."""

    name: str = "Adam"
    lr: Rate | None = None
    arguments: dict[str, Any] = {}

    def problems(self) -> Iterator[Problem]:
        """The class has to exist."""
        found = getattr(optim, self.name, None)
        if not (isinstance(found, type) and issubclass(found, optim.Optimizer)):
            yield Problem(("name",), f"torch.optim has no optimizer {self.name!r}")


class ScheduleOptions(Options, frozen=True):
    """How one optimizer's learning rate moves; its clock ticks by the step or by the epoch."""

    name: str = "constant"
    warmup_steps: Natural = 0
    warmup_ratio: Share = 0.0
    every: Literal["step", "epoch"] = "step"
    arguments: dict[str, Any] = {}

    def problems(self) -> Iterator[Problem]:
        """The schedule has to exist."""
        if self.name not in SCHEDULES and not hasattr(optim.lr_scheduler, self.name):
            known = ", ".join(SCHEDULES)
            yield Problem(("name",), f"no schedule {self.name!r}; known are {known} and torch's classes")


class CheckpointOptions(Options, frozen=True):
    """When to write a checkpoint beside those of TrainingConfig.model_checkpoint, and how many to keep.

    ``keep`` None keeps all; the best and the final one are never pruned.
    """

    every_steps: Positive | None = None
    every_s: PositiveSeconds | None = None
    keep: Positive | None = 3


class TrainerOptions(Options, frozen=True):
    """Options of every trainer.

    Attributes:
        max_steps: stop after so many optimizer updates of the main net; wins over TrainingConfig.epoch_num.
        max_seconds: stop after so many seconds of this run.
        accumulate: batches whose gradients are added up to one step.
        precision: what the forward pass computes in; parameters and optimizer state stay float32.
        grad_clip: greatest norm of the gradients of a network, for all of them or by network name.
        ema: decay of a running average of the weights, for all networks or by name; evaluation uses the
        average. compile: hand the network to torch.compile, by backend name (`inductor` for a machine with a
        compiler). deterministic: refuse operations without a deterministic implementation.
        optimizers, schedules: by network name; what is not named follows TrainingConfig.
        checkpoints: when to write them.
        early_stopping_waits: steps in which early stopping doesn't count yet, beside the trainer's own
        warm-ups. log_every_s: least time between two progress reports.
        stop_when_not_finite: end the run at a loss that is NaN or infinite.
    """

    max_steps: Positive | None = None
    max_seconds: PositiveSeconds | None = None
    accumulate: Positive = 1
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    grad_clip: Rate | dict[str, Rate] | None = None
    ema: Share | dict[str, Share] | None = None
    compile: str | None = None
    deterministic: bool = False
    optimizers: dict[str, OptimizerOptions] = {}
    schedules: dict[str, ScheduleOptions] = {}
    checkpoints: CheckpointOptions = CheckpointOptions()
    early_stopping_waits: Natural = 0
    log_every_s: Annotated[float, Meta(ge=0)] = 0.5
    stop_when_not_finite: bool = True


class TrainingFields(Options, frozen=True):
    """Towhee's TrainingConfig as checked fields; names and defaults are Towhee's."""

    output_dir: str = "./output_dir"
    overwrite_output_dir: bool = True
    eval_strategy: str | None = "epoch"
    eval_steps: Positive | None = None
    batch_size: Positive = 8
    val_batch_size: Annotated[int, Meta(ge=-1)] = -1
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 42
    epoch_num: Natural = 2
    dataloader_pin_memory: bool = True
    dataloader_drop_last: bool = True
    dataloader_num_workers: Annotated[int, Meta(ge=-1)] = 0
    lr: Rate = 5e-5
    metric: str | dict[str, Any] | None = "Accuracy"
    print_steps: Positive | None = None
    load_best_model_at_end: bool | None = False
    early_stopping: dict[str, Any] | str | bool | None = msgspec.field(
        default_factory=lambda: {"monitor": "eval_epoch_metric", "patience": 4, "mode": "max"}
    )
    model_checkpoint: dict[str, Any] | str | bool | None = msgspec.field(
        default_factory=lambda: {"every_n_epoch": 1}
    )
    tensorboard: dict[str, Any] | str | bool | None = msgspec.field(
        default_factory=lambda: {"log_dir": None, "comment": ""}
    )
    loss: str | dict[str, Any] = "CrossEntropyLoss"
    optimizer: str | dict[str, Any] = "Adam"
    lr_scheduler_type: str | dict[str, Any] = "linear"
    warmup_ratio: Share = 0.0
    warmup_steps: Natural = 0
    device_str: str | None = None
    freeze_bn: bool = False

    def problems(self) -> Iterator[Problem]:
        """Rules over several fields, and names that have to exist."""
        if self.eval_strategy is not None and self.eval_strategy not in EVAL_STRATEGIES:
            yield Problem(("eval_strategy",), f"is one of {', '.join(EVAL_STRATEGIES)}")
        if self.eval_strategy in {"step", "steps"} and self.eval_steps is None:
            yield Problem(("eval_steps",), "is required when eval_strategy is steps")
        if self.val_batch_size == 0:
            yield Problem(("val_batch_size",), "is -1 for the same as batch_size, or at least 1")
        yield from self._early_stopping_problems()
        if isinstance(self.model_checkpoint, dict):
            yield from self._checkpoint_problems(self.model_checkpoint)
        for field in ("loss", "optimizer", "lr_scheduler_type", "metric"):
            value = getattr(self, field)
            if isinstance(value, dict) and not isinstance(value.get("name_"), str):
                yield Problem((field, "name_"), "is required: the name of the class")

    def _early_stopping_problems(self) -> Iterator[Problem]:
        if not isinstance(self.early_stopping, dict):
            return
        known = {"monitor", "patience", "mode", "min_delta", "baseline"}
        for name in sorted(set(self.early_stopping) - known):
            yield Problem(("early_stopping", name), f"is not known; known are {', '.join(sorted(known))}")
        if not isinstance(self.early_stopping.get("monitor"), str):
            yield Problem(("early_stopping", "monitor"), "is required: the name of a logged value")
        if self.early_stopping.get("mode", "max") not in {"min", "max"}:
            yield Problem(("early_stopping", "mode"), "is min or max")

    def _checkpoint_problems(self, given: dict[str, Any]) -> Iterator[Problem]:
        for name in sorted(set(given) - {"every_n_epoch", "every_n_iteration", "filepath"}):
            yield Problem(("model_checkpoint", name), "is not known")
        for name in ("every_n_epoch", "every_n_iteration"):
            value = given.get(name, -1)
            if not isinstance(value, int) or value == 0 or value < -1:
                yield Problem(("model_checkpoint", name), "is -1 for never, or at least 1")
