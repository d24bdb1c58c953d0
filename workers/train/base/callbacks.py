"""Towhee's callbacks at the cost of what they use, and our own, which look a few times a second.

`Hooks` knows which callbacks override which hook, so that a step calls nobody who would do nothing. `Logs` is
the dict that callbacks are given; the device is only asked when somebody reads a value out of it.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from workers.train._towhee import Callback
from workers.train.base.tensorboard import EventWriter
from workers.train.report import Progress, Report

Hook = Callable[..., None]
HOOKS = (
    "on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_eval_begin", "on_eval_end",
    "on_train_batch_begin", "on_train_batch_end", "on_eval_batch_begin", "on_eval_batch_end", "on_log",
)  # fmt: skip
#: Hooks whose default calls another one.
_FALLS_TO = {
    "on_train_batch_begin": "on_batch_begin",
    "on_eval_batch_begin": "on_batch_begin",
    "on_train_batch_end": "on_batch_end",
    "on_eval_batch_end": "on_batch_end",
}


class Hooks:
    """The overridden hooks of a list of callbacks, as bound methods in their order."""

    def __init__(self, callbacks: list[Callback]) -> None:
        self.on: dict[str, list[Hook]] = {
            name: [getattr(callback, name) for callback in callbacks if _overrides(callback, name)]
            for name in HOOKS
        }

    def call(self, name: str, *arguments: object) -> None:
        """Call one hook of every callback that has it."""
        for hook in self.on[name]:
            hook(*arguments)


def _overrides(callback: Callback, name: str) -> bool:
    return any(
        getattr(type(callback), hook, None) is not getattr(Callback, hook, None)
        for hook in (name, _FALLS_TO.get(name, name))
    )


class Logs(dict[str, Any]):
    """A dict that brings itself up to date when it is read after a step."""

    def __init__(self, refresh: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self.stale = False
        self._refresh = refresh

    def _fresh(self) -> "Logs":
        if self.stale:
            self.stale = False
            super().update(self._refresh())
        return self

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  numbers and whatever callbacks put there
        return super(Logs, self._fresh()).__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return super(Logs, self._fresh()).__contains__(name)

    def __iter__(self) -> Iterator[str]:
        # Overridden as well, so that dict(logs) asks for each item.
        return super(Logs, self._fresh()).__iter__()

    def __len__(self) -> int:
        return super(Logs, self._fresh()).__len__()

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """As of a dict."""
        return super(Logs, self._fresh()).get(name, default)

    def keys(self) -> Any:  # noqa: ANN401
        """As of a dict."""
        return super(Logs, self._fresh()).keys()

    def values(self) -> Any:  # noqa: ANN401
        """As of a dict."""
        return super(Logs, self._fresh()).values()

    def items(self) -> Any:  # noqa: ANN401
        """As of a dict."""
        return super(Logs, self._fresh()).items()

    def copy(self) -> dict[str, Any]:
        """A plain dict of the values now."""
        return dict(self.items())

    def numbers(self) -> dict[str, float]:
        """The entries that are numbers."""
        return {name: float(value) for name, value in self.items() if isinstance(value, int | float)}


class LogCallback(Callback):
    """A callback that is told a few times a second, after the first and after the last step: ``on_log``."""

    def on_log(self, logs: Logs) -> None:
        """Values are up to date."""


class ProgressBar(LogCallback):
    """A bar on the terminal, one an epoch; without a total when nobody knows how long the data is."""

    def __init__(self, num_epochs: int, num_steps_in_epoch: int | None) -> None:
        super().__init__()
        self._num_epochs = num_epochs
        self._num_steps = num_steps_in_epoch
        self._bar: tqdm[Any] | None = None
        self._first_step = 0

    def on_epoch_begin(self, epochs: int, logs: dict[str, Any]) -> None:
        """A new bar."""
        self._close()
        self._first_step = logs["global_step"]
        self._bar = tqdm(
            total=self._num_steps, unit="step", desc=f"epoch {epochs}/{self._num_epochs}", leave=True
        )

    def on_log(self, logs: Logs) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(_brief(logs), refresh=False)
            self._bar.update(logs["global_step"] - self._first_step - self._bar.n)

    def on_eval_end(self, logs: dict[str, Any]) -> None:
        """Show the evaluation beside the epoch."""
        if self._bar is not None:
            self._bar.set_postfix_str(_brief(logs))

    def on_train_end(self, logs: dict[str, Any]) -> None:
        """The last bar stays."""
        del logs
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class PrintLogs(Callback):
    """One line every ``every`` steps and at each evaluation, as Towhee's print_steps asks."""

    def __init__(self, num_epochs: int, every: int) -> None:
        super().__init__()
        self._num_epochs = num_epochs
        self.every = every

    def print_step(self, logs: Logs) -> None:
        """Called by the trainer at the steps it is due."""
        sys.stdout.write(
            f"epoch={logs['epoch']}/{self._num_epochs}, global_step={logs['global_step']}, {_brief(logs)}\n"
        )

    def on_eval_end(self, logs: dict[str, Any]) -> None:
        """One line."""
        sys.stdout.write(f"epoch={logs['epoch']}/{self._num_epochs}, {_brief(logs)}\n")


def _brief(logs: dict[str, Any]) -> str:
    shown = (
        (name, logs.get(name))
        for name in ("epoch_loss", "epoch_metric", "eval_epoch_loss", "eval_epoch_metric")
    )
    return ", ".join(
        f"{name}={value:.4g}"
        for name, value in shown
        if isinstance(value, int | float) and math.isfinite(value)
    )


class TensorBoard(LogCallback):
    """Scalars into TensorBoard's event files: losses and rates with ``on_log``, evaluations each time."""

    def __init__(self, log_dir: Path) -> None:
        super().__init__()
        self._writer = EventWriter(log_dir)

    def on_log(self, logs: Logs) -> None:
        """Everything that belongs to a step."""
        values = {name: value for name, value in logs.numbers().items() if not name.startswith("eval_")}
        self._writer.scalars(logs["global_step"], values)

    def on_eval_end(self, logs: dict[str, Any]) -> None:
        """Everything that belongs to an evaluation."""
        found = {name: float(value) for name, value in logs.items() if name.startswith("eval_")}
        self._writer.scalars(logs["global_step"], found)

    def on_train_end(self, logs: dict[str, Any]) -> None:
        """Close the file."""
        del logs
        self._writer.close()


class ReportProgress(LogCallback):
    """Turns the logs into `Progress` facts for whoever started the training."""

    def __init__(self, report: Report, num_steps: int | None) -> None:
        super().__init__()
        self._report = report
        self._num_steps = num_steps
        self._began = time.monotonic()

    def on_log(self, logs: Logs) -> None:
        """One fact."""
        numbers = logs.numbers()
        self._report(
            Progress(
                step=logs["global_step"],
                epoch=logs["epoch"],
                num_steps=self._num_steps,
                seconds=time.monotonic() - self._began,
                metrics={
                    name: value for name, value in numbers.items() if name not in {"global_step", "epoch"}
                },
            )
        )
