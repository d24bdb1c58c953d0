"""The base of all trainers: Towhee's Trainer with its loop, evaluation, loading and saving done right.

What a subclass gives: `forward_step` for one loss, or `train_step` for several; `networks` when there are
several; `extra_state` for what else has to survive. TRAINERS.md says how.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from workers.train._towhee import Callback
from workers.train.base import distributed
from workers.train.base.callbacks import Hooks, Logs, PrintLogs
from workers.train.base.checkpoint import (
    CheckpointWriter,
    clear_unfinished,
    list_checkpoints,
    read_checkpoint,
)
from workers.train.base.ema import Ema
from workers.train.base.metrics import make_metric
from workers.train.base.networks import Network, attach_schedules, by_name, make_optimizer, optimizer_options
from workers.train.base.pauses import Pauses
from workers.train.base.persistence import Persisting
from workers.train.base.setup import (
    check_training_config,
    make_callbacks,
    make_device,
    make_pauses,
    running_deterministically,
)
from workers.train.base.stopping import make_watch
from workers.train.base.tally import NonFiniteLoss, Tally
from workers.train.report import Evaluated, Finished
from workers.train.rng import seed_all

BEST, FINAL = "best", "final_epoch"
_EPOCH_STRATEGIES = {"epoch", "eval_epoch"}


class TrainingDiverged(ArithmeticError):
    """The loss or a weight became NaN or infinite.

    ``step`` is the first step known to be bad, ``checkpoint`` the last good checkpoint, None when there is
    none.
    """

    def __init__(self, step: int, what: str, checkpoint: Path | None) -> None:
        where = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint"
        super().__init__(f"{what} in step {step}; {where}")
        self.step = step
        self.checkpoint = checkpoint


class BaseTrainer(Persisting):
    """Trains one or several networks; a drop-in for Towhee's Trainer."""

    # Training, from the outside in.

    def train(self, resume_checkpoint_path: str | Path | None = None) -> None:
        """Train to the end, or go on from a checkpoint (or from the newest in a folder) exactly where it was.

        Called again it goes on where it stopped, if there is more to do.

        Raises:
            InvalidConfig: with everything that is wrong with the configuration.
            TrainingDiverged: a loss or weight is NaN or infinite.
            CheckpointMissing, CheckpointDamaged: nothing to resume from.
        """
        check_training_config(self.configs, self.options)
        if resume_checkpoint_path is not None:
            self.load(resume_checkpoint_path)
        elif self.networks_by_name and self._pending is None:
            self._pending = self._in_memory()
        with running_deterministically(self.options.deterministic):
            self._run_train()

    def _run_train(self, resume_checkpoint_path: str | None = None) -> None:
        """The whole of a run, once it is known from where."""
        if resume_checkpoint_path is not None:
            self.load(resume_checkpoint_path)
        self._build()
        if self.processes.is_main:
            folder = self.checkpoint_folder
            folder.mkdir(parents=True, exist_ok=True)
            Path(self.configs.output_dir).mkdir(parents=True, exist_ok=True)
            clear_unfinished(folder)
            self._writer = CheckpointWriter(self._was_saved)
        try:
            self.hooks.call("on_train_begin", self.logs)
            self._run_epochs()
            self._finish()
        finally:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _run_epochs(self) -> None:
        first = self.epoch if self._in_epoch else self.epoch + 1
        self.finish_reason = None
        epoch = first
        while self.finish_reason is None:
            if not self._in_epoch and (self._has_all_steps() or self._has_all_epochs(epoch)):
                self.finish_reason = "max_steps" if self._has_all_steps() else "epochs"
                break
            self._begin_epoch(epoch)
            if self._train_epoch():
                self._end_epoch()
            epoch += 1

    def _has_all_steps(self) -> bool:
        return self.options.max_steps is not None and self.global_step >= self.options.max_steps

    def _has_all_epochs(self, epoch: int) -> bool:
        # With max_steps the epochs are as many as it takes.
        return self.options.max_steps is None and epoch > self.configs.epoch_num

    def _begin_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if not self._in_epoch:
            self.tally.reset()
            self.begin_epoch()
        self._in_epoch = True
        self.set_train_mode(self.model)
        self._reset_controller()
        self.logs.update(epoch=epoch, global_step=self.global_step)
        self.hooks.call("on_epoch_begin", epoch, self.logs)

    def _train_epoch(self) -> bool:
        """The hot loop. False when the run ends inside the epoch."""
        loader, model, logs = self.loader, self.forward_model, self.logs
        if loader is None:
            raise RuntimeError("_train_epoch runs after _build")
        train_step, control = self.train_step, self.trainercontrol
        prepare = None if loader.on_device else self.prepare_inputs
        begin, end = self.hooks.on["on_train_batch_begin"], self.hooks.on["on_train_batch_end"]
        if self._has_all_steps():
            self.finish_reason = "max_steps"
            return False
        for given in loader:
            for hook in begin:
                hook(given, logs)
            batch = given if prepare is None else prepare(given)
            step_logs = train_step(model, batch)
            self.micro_step += 1
            if step_logs is not None:
                logs.update(step_logs)
            if end:
                logs.stale = True
                for hook in end:
                    hook(batch, logs)
                if (
                    control.should_training_stop
                    or control.should_epoch_stop
                    or control.should_evaluate
                    or control.should_save
                ):
                    self._next_pause = self.micro_step
            if self.micro_step >= self._next_pause and not self._pause():
                return self.finish_reason is None
        return True

    def train_step(self, model: nn.Module, inputs: Any) -> dict[str, float] | None:  # noqa: ANN401
        """One batch: forward, backward and, when the step is full, the update.

        Gives nothing, since logs are read lazily; Towhee's way of giving a dict works as well. Trainers with
        several losses override this, using `backward`, `tally` and `update_networks`.
        """
        if self._autocasts:
            with self.autocast():
                step = self.forward_step(model, inputs)
        else:
            step = self.forward_step(model, inputs)
        self.tally.add(step)
        per_step = self.options.accumulate
        self.backward(step.loss if per_step == 1 else step.loss / per_step)
        if per_step == 1 or (self.micro_step + 1) % per_step == 0:
            self.update_networks()
        return None

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, scaled where float16 needs it."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]

    def update_networks(self, *names: str) -> None:
        """One update of the named networks, of all when none is named."""
        for name in names or self.networks_by_name:
            self.networks_by_name[name].step(self.scaler)
        if self.scaler is not None:
            self.scaler.update()

    # What happens now and then.

    def _pause(self) -> bool:
        """Report, evaluate, save, and see whether to go on with this epoch."""
        self._fold()
        pauses, logs = self._pauses, self.logs
        due = pauses.due(self.micro_step)
        ending = self._has_all_steps() or self._is_out_of_time()
        if due.log or ending:
            self._refresh_logs()
            self.hooks.call("on_log", logs)
        if due.print:
            self._refresh_logs()
            self._print()
        if due.evaluate or self.trainercontrol.should_evaluate:
            self.trainercontrol.should_evaluate = False
            self._evaluate_and_watch()
        if due.checkpoint or self.trainercontrol.should_save:
            self.trainercontrol.should_save = False
            self.checkpoint(f"step_{self.global_step}")
        if self.trainercontrol.should_training_stop:
            self.finish_reason = "asked"
        elif self.watch.is_over:
            self.finish_reason = "early_stopping"
        elif self._has_all_steps():
            self.finish_reason = "max_steps"
        elif ending:
            self.finish_reason = "max_seconds"
        self._next_pause = pauses.next(self.micro_step)
        # Asked to end the epoch only: the loader goes back to a start, and the epoch counts as done.
        if self.trainercontrol.should_epoch_stop and self.loader is not None:
            self.loader.reset()
            return False
        return self.finish_reason is None

    def _is_out_of_time(self) -> bool:
        limit = self.options.max_seconds
        if limit is None:
            return False
        over = time.monotonic() - self._began >= limit
        if self.processes.total > 1:
            # Every process has to come to the same answer.
            over = distributed.summed([float(over)], self.device)[0] > 0
        return over

    def _end_epoch(self) -> None:
        self._fold()
        self._in_epoch = False
        self._refresh_logs()
        if self.configs.eval_strategy in _EPOCH_STRATEGIES:
            self._evaluate_and_watch()
        self.hooks.call("on_log", self.logs)
        self.hooks.call("on_epoch_end", self.epoch, self.logs)
        self.loss_value = self.logs["epoch_loss"]
        self.metric_value = self.logs["epoch_metric"]
        self.lr_value = self.logs["lr"]
        for network in self.networks_by_name.values():
            network.epoch_ended(self.logs.get(self.watch.monitor))
        self._summarise()
        if self._saves_this_epoch() or self.trainercontrol.should_save:
            self.checkpoint(f"epoch_{self.epoch}")
        if self.trainercontrol.should_training_stop:
            self.finish_reason = "asked"
        elif self.watch.is_over:
            self.finish_reason = "early_stopping"

    def _saves_this_epoch(self) -> bool:
        given = self.configs.model_checkpoint
        every = given.get("every_n_epoch", -1) if isinstance(given, Mapping) else -1
        return every > 0 and self.epoch % every == 0

    def _evaluate_and_watch(self) -> None:
        self._refresh_logs()
        if self._evaluation_loader() is None:
            return
        self.evaluate(self.model, self.logs)
        self._evaluated_at = self.global_step
        is_best = self.watch.see(self.logs, self.global_step)
        found = {name: value for name, value in self.logs.numbers().items() if name.startswith("eval_")}
        found = {name: value for name, value in found.items() if math.isfinite(value)}
        self.report(Evaluated(step=self.global_step, epoch=self.epoch, metrics=found, is_best=is_best))
        if is_best and self.configs.load_best_model_at_end:
            self.checkpoint(BEST, prunes=False)

    def _finish(self) -> None:
        evaluates = self.configs.eval_strategy not in {None, "no", "null", "None"}
        if evaluates and self._evaluated_at != self.global_step and self._evaluation_loader() is not None:
            self._evaluate_and_watch()
        self._summarise()
        self.hooks.call("on_train_end", self.logs)
        self.checkpoint(FINAL, prunes=False)
        if self._writer is not None:
            self._writer.wait()
        if self.processes.total > 1:
            # What the main process wrote is there for all of them from here on.
            torch.distributed.barrier()
        if self.configs.load_best_model_at_end:
            self._load_best()
        reason = self.finish_reason or "epochs"
        self.report(Finished(step=self.global_step, epoch=self.epoch, reason=reason))

    def _load_best(self) -> None:
        best = self.checkpoint_folder / BEST
        if best.exists():
            self.model.load_state_dict(read_checkpoint(best).model)
        else:
            self.warn("no_best", "load_best_model_at_end was asked for, but nothing was ever evaluated")

    # Building and refreshing.

    def _build(self) -> None:
        configs, options = self.configs, self.options
        seed_all(configs.seed)
        self.processes = distributed.join_processes(make_device(configs, self.processes))
        self.device = make_device(configs, self.processes)
        self.model.to(self.device)
        if self.processes.total > 1:
            distributed.share_start(self.model)
            # Dropout and the like differ between processes; the weights were shared before.
            seed_all(configs.seed + self.processes.rank)
        self.loader = self.get_train_dataloader()
        num_batches = self.loader.num_batches()
        num_steps = self._num_steps(num_batches)
        self._create_loss()
        self._create_metric()
        self._build_networks(num_steps)
        self.watch = make_watch(
            configs, self.watched_metric(), self.warmup_steps() + options.early_stopping_waits
        )
        self._pauses: Pauses = make_pauses(
            configs,
            options,
            batches_per_step=self.batches_per_step(),
            last_step=options.max_steps,
            processes=self.processes,
        )
        self.logs = Logs(self._fresh_logs)
        self.logs.update({"global_step": self.global_step, "epoch": self.epoch, "eval_global_step": 0})
        self._restore()
        self._next_pause = self.micro_step + 1
        self._began = time.monotonic()
        self._evaluated_at = -1
        self._build_callbacks(
            num_steps, None if num_batches is None else num_batches // self.batches_per_step()
        )

    def _build_networks(self, num_steps: int | None) -> None:
        options = self.options
        self.scaler = None
        self._autocasts = options.precision != "float32"
        if options.precision == "float16":
            self.scaler = torch.amp.GradScaler(self.device.type)
        self.networks_by_name = {}
        for name, module in self.networks().items():
            if self.override_optimizer and not self.networks_by_name:
                optimizer = self.optimizer
            else:
                wanted = optimizer_options(self.configs, options, name)
                optimizer = make_optimizer(wanted, self.parameter_groups(name, module), name)
            network = Network(name, module, optimizer, clip=by_name(options.grad_clip, name))
            decay = by_name(options.ema, name)
            network.ema = None if decay is None else Ema(module, decay)
            network.num_processes = self.processes.total
            self.networks_by_name[name] = network
        attach_schedules(self.networks_by_name.values(), self.configs, options, num_steps)
        main = next(iter(self.networks_by_name.values()))
        self.optimizer, self.lr_scheduler = main.optimizer, main.schedule
        self.forward_model = self.model
        if options.compile is not None:
            self.forward_model = cast("nn.Module", torch.compile(self.model, backend=options.compile))

    def _build_callbacks(self, num_steps: int | None, steps_in_epoch: int | None) -> None:
        self._own_callbacks = (
            make_callbacks(self.configs, self.report, num_steps=num_steps, steps_in_epoch=steps_in_epoch)
            if self.processes.is_main
            else []
        )
        callbacks: list[Callback] = [*self.callbacks.callbacks, *self._own_callbacks]
        for callback in callbacks:
            callback.set_model(self.model)
            callback.set_optimizer(self.optimizer)
            callback.set_trainercontrol(self.trainercontrol)
        self.hooks = Hooks(callbacks)

    def _create_metric(self) -> None:
        self.metric = make_metric(self.configs.metric)
        self.tally = Tally(self.metric, stop_when_not_finite=self.options.stop_when_not_finite)
        self.loss_metric = self.tally

    def _num_steps(self, num_batches: int | None) -> int | None:
        if self.options.max_steps is not None:
            return self.options.max_steps
        return (
            None if num_batches is None else num_batches * self.configs.epoch_num // self.batches_per_step()
        )

    def _fresh_logs(self) -> dict[str, Any]:
        self._fold()
        metric = self.tally.metric.compute() if self.tally.metric is not None else None
        return {
            **self.tally.means(),
            "global_step": self.global_step,
            "epoch": self.epoch,
            "lr": next(iter(self.networks_by_name.values())).lr,
            "step_loss": self.tally.last_loss,
            "epoch_loss": self.tally.mean_loss,
            "epoch_metric": math.nan if metric is None else metric,
        }

    def _refresh_logs(self) -> None:
        self.logs.stale = False
        self.logs.update(self._fresh_logs())

    def _fold(self) -> None:
        try:
            self.tally.fold()
        except NonFiniteLoss as error:
            step = -(-(self.micro_step - error.num_later) // self.batches_per_step())
            raise TrainingDiverged(step, f"the loss is {error.loss}", self._last_good()) from error

    def _ensure_finite(self, weights: Mapping[str, Tensor]) -> None:
        if not self.options.stop_when_not_finite:
            return
        checks = [weight.isfinite().all() for weight in weights.values() if weight.is_floating_point()]
        if checks and not bool(torch.stack(checks).all()):
            raise TrainingDiverged(self.global_step, "a weight is NaN or infinite", self._last_good())

    def _last_good(self) -> Path | None:
        if self._writer is not None:
            self._writer.wait()
        found = list_checkpoints(self.checkpoint_folder)
        return found[-1] if found else None

    def _print(self) -> None:
        for callback in self._own_callbacks:
            if isinstance(callback, PrintLogs):
                callback.print_step(self.logs)

    def _summarise(self) -> None:
        self.model_card.training_config = self.configs
        self.model_card.training_summary = {
            "epochs": self.epoch,
            "steps": self.global_step,
            "seed": self.configs.seed,
            **{
                name: round(value, 6)
                for name, value in self.logs.numbers().items()
                if name.startswith(("epoch_", "eval_epoch_"))
            },
        }

    def _reset_controller(self) -> None:
        control = self.trainercontrol
        control.should_save = control.should_training_stop = control.should_epoch_stop = False
        control.should_evaluate = control.should_log = False

    def _in_memory(self) -> Any:  # noqa: ANN401
        """This trainer's state as if it had been saved and loaded: a second `train` goes on from it."""
        from workers.train.base.checkpoint import Loaded  # noqa: PLC0415
        from workers.train.base.encoding import decode  # noqa: PLC0415

        snapshot = self._snapshot()
        return Loaded(Path(), snapshot.model, decode(snapshot.state, snapshot.training))
