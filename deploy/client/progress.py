"""A training as a person watches it: a bar that moves, and lines for what else happens."""

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from deploy.client.events import Event

_BAR = "{desc:<10}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps{postfix}"
#: Losses that fit on a line beside the bar.
_MOST_NUMBERS = 3
#: Without a terminal each state of the bar is a line in somebody's log.
_LINE_EVERY_S, _DRAW_EVERY_S = 30.0, 0.1
_MOST_CHARS = 300
_MINUTE_S, _HOUR_S = 60, 3600


class Progress:
    """Shows a training's events. Use it as a context manager."""

    def __init__(self, server: str) -> None:
        self._server = server
        every_s = _DRAW_EVERY_S if sys.stderr.isatty() else _LINE_EVERY_S
        self._bar = tqdm(total=1, bar_format=_BAR, desc="waiting", mininterval=every_s, file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def take(self, event: Event) -> None:
        """Show one event. Kinds that are not known are somebody else's."""
        data = event.data
        match event.name:
            case "job_state_changed":
                self._bar.set_description_str(str(data["state"]).lower())
                if data.get("reason"):
                    self._say(f"{str(data['state']).lower()}: {data['reason']}")
            case "training_progressed":
                self._move(data)
            case "samples_generated":
                self._show_samples(data)
            case "training_warned":
                self._say(f"warning at step {data['step']}: {data['message']}")

    def _move(self, data: Mapping[str, Any]) -> None:
        self._bar.total = max(1, int(data["total_steps"]))
        # A second attempt goes on from a checkpoint, and so a few steps back.
        self._bar.n = int(data["step"])
        self._bar.set_postfix_str(", ".join(_numbers(data)), refresh=False)
        # As often as there is to see, whatever the bar thinks of the steps between.
        self._bar.update(0)
        if self._bar.n >= self._bar.total or sys.stderr.isatty():
            self._bar.refresh()

    def _show_samples(self, data: Mapping[str, Any]) -> None:
        if data.get("image_url"):
            self._say(f"samples at step {data['step']}: {self._server}{data['image_url']}")
        else:
            text = " ".join(str(data.get("text") or "").split())
            self._say(f"sample at step {data['step']}: {text[:_MOST_CHARS]}")

    def _say(self, line: str) -> None:
        self._bar.write(line, file=sys.stdout)


def _numbers(data: Mapping[str, Any]) -> list[str]:
    """What stands beside the bar: losses first, and how long it still takes."""
    metrics: Mapping[str, float] = data["metrics"]
    losses = [name for name in metrics if "loss" in name] or list(metrics)
    found = [f"{name}={metrics[name]:.4g}" for name in losses[:_MOST_NUMBERS]]
    eta_s = data.get("eta_seconds")
    return found if eta_s is None else [*found, f"{duration(eta_s)} left"]


def duration(seconds: float) -> str:
    """Write a number of seconds as a person says it."""
    whole = max(0, round(seconds))
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}:{whole % _MINUTE_S:02d} min"
    return f"{whole // _HOUR_S}:{whole % _HOUR_S // _MINUTE_S:02d} h"
