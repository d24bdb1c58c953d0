"""The base of all trainers: Towhee's Trainer with its loop, evaluation, loading and saving done right.

What a subclass gives: `forward_step` for one loss, or `train_step` for several; `networks` when there are
several; `extra_state` for what else has to survive. CONTRIBUTING.md beside this package says how.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workers.train.base import distributed
from workers.train.base.building import Building
from workers.train.base.callbacks import PrintLogs
from workers.train.base.checkpoint import CheckpointWriter, clear_unfinished, read_checkpoint
from workers.train.base.setup import check_training_config, running_deterministically
from workers.train.report import Evaluated, Finished

BEST, FINAL = "best", "final_epoch"
_EPOCH_STRATEGIES = {"epoch", "eval_epoch"}


class BaseTrainer(Building):
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
        loader, model, logs = self.loader, self.model, self.logs
        if loader is None:
            raise RuntimeError("_train_epoch runs after _build")
        train_step, control = self.train_step, self.trainercontrol
        prepare = None if loader.on_device else self.prepare_inputs
        begin, end = self.hooks.on["on_train_batch_begin"], self.hooks.on["on_train_batch_end"]
        if self._is_over_already():
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

    def _is_over_already(self) -> bool:
        # A run saved by a callback at the end of a batch has not been evaluated as was due after that batch.
        if self._pauses.evaluates(self.micro_step) and self._evaluated_at != self.global_step:
            self._evaluate_and_watch()
        if self._has_all_steps():
            self.finish_reason = "max_steps"
        elif self.watch.is_over:
            self.finish_reason = "early_stopping"
        return self.finish_reason is not None

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
        self.look()
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
