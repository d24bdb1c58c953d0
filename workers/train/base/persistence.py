"""Saving and loading a trainer: everything that decides how training goes on."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from workers.train.base import distributed
from workers.train.base.checkpoint import (
    CheckpointWriter,
    Loaded,
    Snapshot,
    read_checkpoint,
    take_snapshot,
    write_checkpoint,
)
from workers.train.base.evaluation import Evaluating
from workers.train.base.modelcard import render_card
from workers.train.data.loaders import Loader
from workers.train.report import CheckpointSaved
from workers.train.rng import RngState, capture_rng, restore_rng

#: Parts of a state whose change means that the rest of a run may come out differently.
_SAME_CURVE = ("torch", "numpy", "python", "device", "threads", "processes")
#: Parts of a loader's state that each process has of its own: what it draws for its rows, not their order.
_OF_EACH_PROCESS = frozenset({"transform_generator", "began"})


class Persisting(Evaluating):
    """`save` and `load`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:  # noqa: ANN401  as Core's
        super().__init__(*arguments, **keywords)
        self.loader: Loader | None = None
        self._pending: Loaded | None = None
        self._evaluated_at = -1
        self._writer: CheckpointWriter | None = None

    def save(self, path: str | Path, overwrite: bool = True) -> None:
        """Write a complete checkpoint to the folder ``path`` and wait until it is there.

        Raises:
            FileExistsError: it exists and ``overwrite`` is False.
        """
        path = Path(path)
        if not overwrite and path.exists():
            raise FileExistsError(f"{path.resolve()} exists")
        snapshot = self._snapshot()
        if self.processes.is_main:
            if self._writer is not None:
                self._writer.wait()
            self._was_saved(path, snapshot.step, write_checkpoint(snapshot, path))

    def load(self, path: str | Path) -> None:
        """Take the weights now, and everything else when training starts: it goes on exactly where it was.

        Args:
            path: a checkpoint, or a folder of them, of which the most trained is taken.

        Raises:
            CheckpointMissing, CheckpointDamaged: as `checkpoint.read_checkpoint`.
        """
        loaded = read_checkpoint(Path(path))
        self.model.load_state_dict(loaded.model)
        counters = loaded.state["counters"]
        self.epoch, self.micro_step = counters["epoch"], counters["micro_step"]
        self.loss_value, self.lr_value = counters["loss_value"], counters["lr_value"]
        self.metric_value = counters["metric_value"]
        self._in_epoch = counters["in_epoch"]
        self._pending = loaded

    def checkpoint(self, name: str, *, prunes: bool = True) -> None:
        """Write a checkpoint beside the training thread, under the folder of checkpoints."""
        snapshot = self._snapshot()
        if self._writer is not None:
            keep = self.options.checkpoints.keep if prunes else None
            self._writer.submit(snapshot, self.checkpoint_folder / name, keep)

    @property
    def checkpoint_folder(self) -> Path:
        """Where checkpoints go: TrainingConfig.model_checkpoint's ``filepath``, else its output_dir."""
        given = self.configs.model_checkpoint
        filepath = given.get("filepath") if isinstance(given, Mapping) else None
        return Path(filepath or self.configs.output_dir)

    def _fold(self) -> None:
        """Bring the sums of the epoch up to date."""
        self.tally.fold()

    def _ensure_finite(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Called before weights get into a checkpoint."""

    def _was_saved(self, path: Path, step: int, byte_size: int) -> None:
        self.report(CheckpointSaved(step=step, path=str(path), byte_size=byte_size))

    def _snapshot(self) -> Snapshot:
        if self.processes.total > 1:
            distributed.average_buffers(self.model, self.processes.total)
        # A bad loss or weight must stop the run before it can get into a checkpoint.
        self._fold()
        weights = self.model.state_dict()
        self._ensure_finite(weights)
        rng: list[Any] = [capture_rng()._asdict()]
        extra: list[Any] = [self.extra_state()]
        places: list[Any] = []
        if self.processes.total > 1:
            rng = distributed.gathered(rng[0], self.processes.total)
            extra = distributed.gathered(extra[0], self.processes.total)
            places = distributed.gathered(_own_part(self._place() or {}), self.processes.total)
        state = {
            "counters": {
                "epoch": self.epoch,
                "micro_step": self.micro_step,
                "in_epoch": self._in_epoch,
                "evaluated_at": self._evaluated_at,
                "loss_value": self.loss_value,
                "metric_value": self.metric_value,
                "lr_value": self.lr_value,
            },
            "networks": {name: network.state_dict() for name, network in self.networks_by_name.items()},
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "loader": self._place(),
            "places": places,
            "tally": self.tally.state_dict(),
            "watch": self.watch.state_dict(),
            "rng": rng,
            "extra": extra,
            "logs": {name: value for name, value in self.logs.items() if isinstance(value, int | float)},
            "setting": self._setting(),
        }
        steps = (self.micro_step, self.global_step)
        return take_snapshot(weights, state, steps=steps, card=render_card(self.model_card))

    def _place(self) -> dict[str, Any] | None:
        return None if self.loader is None else self.loader.state_dict()

    def _setting(self) -> dict[str, Any]:
        return {
            "trainer": type(self).__name__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "processes": self.processes.total,
        }

    def _restore(self) -> None:
        """Put a loaded state into what `train` has built. Random generators come last."""
        if self._pending is None:
            return
        state = self._pending.state
        here, there = self._setting(), state["setting"]
        changed = [
            f"{name} {there[name]} -> {here[name]}" for name in _SAME_CURVE if here[name] != there[name]
        ]
        if changed:
            self.warn(
                "resumed_elsewhere",
                f"resumed under other conditions, results may differ: {', '.join(changed)}",
            )
        self.model.load_state_dict(self._pending.model)
        if not state["networks"]:  # saved before any training: there is nothing but weights
            self._pending = None
            return
        for name, network in self.networks_by_name.items():
            network.load_state_dict(state["networks"][name])
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
        mine = self.processes.rank if self.processes.rank < len(state["rng"]) else 0
        if self.loader is not None and state["loader"] is not None:
            places = state.get("places")
            self.loader.load_state_dict(_with(state["loader"], places[mine] if places else {}))
        self.tally.load_state_dict(state["tally"])
        if self.metric is not None:
            self.metric.to(self.device)
        self.watch.load_state_dict(state["watch"])
        self._evaluated_at = state["counters"]["evaluated_at"]
        self.logs.update(state["logs"])
        self.load_extra_state(_on(state["extra"][mine], self.device))
        restore_rng(RngState(**state["rng"][mine]))
        self._pending = None


def _own_part(place: Mapping[str, Any]) -> dict[str, Any]:
    """What of a loader's state, and of the loaders' within, differs between processes."""
    own: dict[str, Any] = {}
    for name, value in place.items():
        if name in _OF_EACH_PROCESS:
            own[name] = value
        elif isinstance(value, dict):
            own[name] = _own_part(value)
    return own


def _with(place: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A loader's state with one process's part of it."""
    its = {
        name: value if name in _OF_EACH_PROCESS else _with(place[name], value) for name, value in own.items()
    }
    return {**place, **its}


def _on(value: Any, device: torch.device) -> Any:  # noqa: ANN401  any plain state
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _on(part, device) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on(part, device) for part in value)
    return value


def load_weights(module: nn.Module, path: Path) -> None:
    """Only the weights of a checkpoint, for a module of the same kind."""
    module.load_state_dict(read_checkpoint(path).model)
