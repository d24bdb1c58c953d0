"""Evaluation and prediction that leave no trace in training."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from workers.train.base import distributed
from workers.train.base.batches import apply_model, num_rows
from workers.train.base.core import Core
from workers.train.base.feeding import Feeding
from workers.train.base.metrics import make_metric
from workers.train.base.setup import make_device, make_loss
from workers.train.base.tally import Step, Tally
from workers.train.data.loaders import Batch, Loader
from workers.train.rng import isolated_rng


class Evaluating(Feeding):
    """`evaluate`, `evaluate_step`, `predict` and what they need."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:  # noqa: ANN401  as Core's
        super().__init__(*arguments, **keywords)
        self._eval_tally = Tally(None)
        self._eval_loader: tuple[object, Loader | None] | None = None

    @torch.no_grad()
    def evaluate(self, model: nn.Module | None = None, logs: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run over the evaluation data; adds ``eval_epoch_loss``, ``eval_epoch_metric`` and more to ``logs``.

        Means are by rows and over all processes. The model's mode, batch statistics, random generators and
        the sums of the training epoch are as before afterwards. With an average of the weights, that is what
        is evaluated.
        """
        model = self.model if model is None else model
        logs = {"epoch": self.epoch, "global_step": self.global_step} if logs is None else logs
        self._ready()
        loader = self._evaluation_loader()
        if loader is None:
            self.warn(
                "no_eval_data", "there is nothing to evaluate on: no eval_dataset and no eval_dataloader"
            )
            return logs
        logs.setdefault("eval_global_step", 0)
        with self._evaluating(model):
            self._eval_tally = Tally(make_metric(self.configs.metric), stop_when_not_finite=False)
            self.begin_evaluation()
            self.hooks.call("on_eval_begin", logs)
            self._run_over(loader, model, logs)
            self._eval_tally.fold()
            self._over_processes(self._eval_tally)
            logs.update(self._evaluation_logs())
            logs.update({f"eval_{name}": value for name, value in self.end_evaluation(model).items()})
        self.hooks.call("on_eval_end", logs)
        return logs

    def evaluate_step(self, model: nn.Module, inputs: Any) -> dict[str, float]:  # noqa: ANN401
        """Towhee's hook: take one batch into the evaluation, and give the numbers so far."""
        with torch.no_grad():
            self._eval_tally.add(self._evaluation_step(model, self.prepare_inputs(inputs)))
        self._eval_tally.fold()
        return {"eval_step_loss": self._eval_tally.last_loss, **self._evaluation_logs()}

    @torch.no_grad()
    def predict(self, inputs: Any) -> Any:  # noqa: ANN401  whatever the model gives
        """The model's outputs in eval mode, a dict's entries by name; its mode is as before afterwards."""
        self._ready()
        with self._evaluating(self.model), self.autocast():
            return apply_model(self.model, self.prepare_inputs(inputs))

    @torch.no_grad()
    def compute_metric(self, model: nn.Module, inputs: Any) -> float | None:  # noqa: ANN401
        """Towhee's hook: the metric of one batch, by a forward pass of its own. Training never calls it."""
        metric = make_metric(self.configs.metric)
        step = self._evaluation_step(model, self.prepare_inputs(inputs))
        if metric is None or step.outputs is None or step.targets is None:
            return None
        metric.update(step.outputs, step.targets)
        return metric.compute()

    def update_metrics(
        self,
        model: nn.Module,
        inputs: Batch,
        step_loss: torch.Tensor,
        training: bool = True,
    ) -> tuple[float, float]:
        """Towhee's hook for a train_step of one's own: take a loss, give the epoch's means so far."""
        del model
        tally = self.tally if training else self._eval_tally
        tally.add(Step(step_loss, rows=num_rows(inputs)))
        tally.fold()
        metric = tally.metric.compute() if tally.metric is not None else None
        return tally.mean_loss, math.nan if metric is None else metric

    def autocast(self) -> torch.autocast:
        """The context in which forward passes compute in options.precision."""
        precision = self.options.precision
        kind = torch.bfloat16 if precision == "bfloat16" else torch.float16
        return torch.autocast(self.device.type, dtype=kind, enabled=precision != "float32")

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """The running averages in the place of the weights, where there are any."""
        with ExitStack() as stack:
            for network in self.networks_by_name.values():
                if network.ema is not None:
                    stack.enter_context(network.ema.applied())
            yield

    @contextmanager
    def _evaluating(self, model: nn.Module) -> Iterator[None]:
        if self.processes.total > 1:
            distributed.average_buffers(self.model, self.processes.total)
        modes = [(module, module.training) for module in model.modules()]
        with isolated_rng(self.configs.seed), self.averaged_weights():
            model.eval()
            try:
                yield
            finally:
                for module, was_training in modes:
                    module.training = was_training

    def _run_over(self, loader: Loader, model: nn.Module, logs: dict[str, Any]) -> None:
        own_step = type(self).evaluate_step is not Evaluating.evaluate_step
        begin, end = self.hooks.on["on_eval_batch_begin"], self.hooks.on["on_eval_batch_end"]
        loader.reset()
        for given in loader:
            for hook in begin:
                hook(given, logs)
            batch = given if loader.on_device else self.prepare_inputs(given)
            if own_step:
                logs.update(self.evaluate_step(model, batch))
            else:
                self._eval_tally.add(self._evaluation_step(model, batch))
            if end:
                self._eval_tally.fold()
                logs.update(eval_step_loss=self._eval_tally.last_loss, **self._evaluation_logs())
            for hook in end:
                hook(batch, logs)
            logs["eval_global_step"] += 1

    def _evaluation_step(self, model: nn.Module, batch: Any) -> Step:  # noqa: ANN401
        with self.autocast():
            return self.evaluation_step(model, batch)

    def _evaluation_logs(self) -> dict[str, float]:
        tally = self._eval_tally
        metric = tally.metric.compute() if tally.metric is not None else None
        means = {"epoch_loss": tally.mean_loss, **tally.means()}
        found = {**means, "epoch_metric": math.nan if metric is None else metric, **self.derived(means)}
        return {f"eval_{name}": value for name, value in found.items()}

    def _over_processes(self, tally: Tally) -> None:
        if self.processes.total < 2:  # noqa: PLR2004  alone
            return
        tally.take_sums(distributed.summed(tally.sums(), self.device))
        if tally.metric is not None and tally.metric.totals is not None:
            distributed.sum_in_place(tally.metric.totals)

    def _evaluation_loader(self) -> Loader | None:
        """Made once for each data: tensors are moved to the device just once."""
        source = self.eval_dataloader if self.eval_dataloader is not None else self.eval_dataset
        if self._eval_loader is None or self._eval_loader[0] is not source:
            self._eval_loader = (source, self.get_eval_dataloader())
        return self._eval_loader[1]

    def _ready(self) -> None:
        """Evaluation and prediction work before, during and after training."""
        if not self.networks_by_name:
            self.device = make_device(self.configs, self.processes)
            self.model.to(self.device)
            self.metric = make_metric(self.configs.metric)
            self._create_loss()

    def _create_loss(self) -> None:
        if not self.override_loss:
            self.loss = make_loss(self.configs.loss)
        if isinstance(self.loss, nn.Module):
            self.loss.to(self.device)


__all__ = ["Core", "Evaluating"]
