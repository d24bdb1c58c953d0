"""Which evaluation was the best, and when to stop waiting for a better one."""

import math
from collections.abc import Mapping
from typing import Any

from workers.train._towhee import TrainingConfig

_DEFAULT = {"monitor": "eval_epoch_metric", "patience": 4, "mode": "max"}
_OFF = (None, False, "no", "null", "None")


class Watch:
    """The best value so far of one logged number.

    ``patience`` None never stops. Evaluations before ``first_step`` are looked at, but neither count as
    waiting nor can be the best: a loss whose warm-up still grows would look best at its start.
    """

    def __init__(
        self, monitor: str, mode: str, *, patience: int | None, first_step: int = 0, **rule: float | None
    ) -> None:
        self.monitor = monitor
        self.mode = mode
        self.best = math.nan
        self.best_step = 0
        self.waited = 0
        self._patience = patience
        self._first_step = first_step
        self._least = abs(rule.get("min_delta") or 0.0)
        self._baseline = rule.get("baseline")

    def see(self, logs: Mapping[str, Any], step: int) -> bool:
        """Take one evaluation; True when it is the best so far."""
        value = logs.get(self.monitor)
        if value is None or not math.isfinite(value) or step < self._first_step:
            return False
        if math.isnan(self.best) or self._better(value, self.best):
            self.best, self.best_step = float(value), step
            if self._baseline is None or self._better(value, self._baseline):
                self.waited = 0
                return True
        self.waited += 1
        return self.best_step == step

    @property
    def is_over(self) -> bool:
        """Whether it has waited long enough."""
        return self._patience is not None and self.waited >= max(1, self._patience)

    def _better(self, value: float, other: float) -> bool:
        return value > other + self._least if self.mode == "max" else value < other - self._least

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know."""
        return {
            "monitor": self.monitor,
            "best": self.best,
            "best_step": self.best_step,
            "waited": self.waited,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, if it was the same number that was watched."""
        if state["monitor"] == self.monitor:
            self.best, self.best_step, self.waited = state["best"], state["best_step"], state["waited"]


def make_watch(configs: TrainingConfig, natural: tuple[str, str], first_step: int) -> Watch:
    """The watch that TrainingConfig.early_stopping describes.

    Its default watches a metric to be maximised; where nothing else was asked for, ``natural`` (monitor,
    mode) says what this trainer has.
    """
    given = configs.early_stopping
    if given in _OFF or not isinstance(given, dict):
        return Watch(*natural, patience=None, first_step=first_step)
    if given == _DEFAULT:
        return Watch(*natural, patience=given["patience"], first_step=first_step)
    return Watch(
        given["monitor"],
        given.get("mode", "max"),
        patience=given.get("patience", 0),
        first_step=first_step,
        min_delta=given.get("min_delta"),
        baseline=given.get("baseline"),
    )
