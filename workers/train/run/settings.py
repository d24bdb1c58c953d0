"""What all trainings have in common: how long, how often to look, and where to write."""

from typing import Any, NamedTuple

from workers.train._towhee import TrainingConfig
from workers.train.configs import CheckpointOptions
from workers.train.run.order import Order
from workers.train.run.problems import CannotTrain

#: Rows of one pass of an evaluation.
_EVAL_BATCH = 256
#: Evaluations of a run, and how many are wanted of a run of less than as many epochs.
_LEAST_EVALUATIONS, _WANTED_EVALUATIONS, _MOST_EVALUATIONS = 2, 5, 20
#: Rows looked at in all evaluations together for each row of training. A row of training costs three times
#: as much, so that looking takes a sixth of the time at most.
_LOOKED_AT = 0.5
#: Test rows that are looked at, however short the training is.
_LEAST_TEST_ROWS = 500
#: Complete checkpoints on disk: the newest, and the one before while that is being written.
_KEPT = 2


class Rows(NamedTuple):
    """How much there is to train with: rows, those of one batch, and batches that make one step.

    What counts as a row is the trainer's business, as long as it is the same for ``test_rows`` below.
    """

    train: int
    batch: int
    batches_per_step: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """At least one."""
        return max(1, self.train // self.batch // self.batches_per_step)


def ensure_batches(num_rows: int, batch_size: int, *, what: str = "rows") -> None:
    """See that there is at least one whole batch.

    Raises:
        CannotTrain: there is not.
    """
    if num_rows < batch_size:
        raise CannotTrain(
            f"a batch of {batch_size} is more than the {num_rows} {what} there are for training",
            f"Say batch_size {num_rows} or less." if num_rows > 1 else "Add rows to the data set.",
        )


def total_steps_of(order: Order, rows: Rows) -> int:
    """Steps of the whole training."""
    return order.spec.max_steps or order.spec.parameters.epochs * rows.steps_per_epoch


def num_test_rows(order: Order, rows: Rows, available: int, most: int) -> int:
    """How many of the ``available`` test rows to look at: fewer where training is short."""
    seen = total_steps_of(order, rows) * rows.batch * rows.batches_per_step
    return min(available, most, max(_LEAST_TEST_ROWS, int(_LOOKED_AT * seen)))


def training_config(
    order: Order,
    rows: Rows,
    *,
    num_test: int,
    metric: str | None = None,
    eval_batch: int = _EVAL_BATCH,
) -> TrainingConfig:
    """Towhee's config: it evaluates now and then and at the end, and neither prints nor draws."""
    parameters = order.spec.parameters
    steady = "constant_with_warmup" if parameters.warmup_steps else "constant"
    return TrainingConfig(
        output_dir=str(order.folder),
        eval_strategy="steps" if num_test else "no",
        eval_steps=_steps_between_evaluations(order, rows, num_test),
        # Each process has its part of a batch.
        batch_size=parameters.batch_size // order.processes,
        val_batch_size=eval_batch,
        seed=order.spec.seed,
        epoch_num=parameters.epochs,
        lr=parameters.learning_rate,
        lr_scheduler_type=steady if parameters.schedule == "constant" else parameters.schedule,
        warmup_steps=parameters.warmup_steps,
        metric=metric,
        print_steps=None,
        tensorboard=None,
        early_stopping=None,
        model_checkpoint=None,
        load_best_model_at_end=False,
        device_str=order.device,
    )


def common_options(order: Order, rows: Rows) -> dict[str, Any]:
    """The options that every trainer has.

    The number of steps is always given, so that the end is known before the data is looked at.
    """
    parameters = order.spec.parameters
    return {
        "max_steps": total_steps_of(order, rows),
        "max_seconds": order.spec.max_seconds,
        "grad_clip": parameters.grad_clip,
        "checkpoints": CheckpointOptions(every_s=order.checkpoint_every_s, keep=_KEPT),
    }


def _steps_between_evaluations(order: Order, rows: Rows, num_test: int) -> int:
    total = total_steps_of(order, rows)
    seen = total * rows.batch * rows.batches_per_step
    wanted = max(_WANTED_EVALUATIONS, -(-total // rows.steps_per_epoch))
    affordable = int(_LOOKED_AT * seen / max(1, num_test))
    return -(-total // max(_LEAST_EVALUATIONS, min(wanted, affordable, _MOST_EVALUATIONS)))
