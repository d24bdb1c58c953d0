"""``make training-resume``: kill trainers at random batches, resume them, and compare bit for bit.

Every run is a process of its own. They are forked from a server that has imported everything and computed
nothing, since importing is what costs.
"""

import argparse
import importlib
import json
import math
import multiprocessing
import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from tests.support.training import MakeTrainer, Recorder, Run, difference, saved_at
from tests.workers.train.scenarios import variants
from workers.train.base import BaseTrainer
from workers.train.base.checkpoint import MODEL_FILE, STATE_FILE, TRAINING_FILE, write_checkpoint
from workers.train.evidence.__main__ import main as write_report
from workers.train.evidence.resumes import Kill, add_kill, forget_old
from workers.train.evidence.rows import ROOT, SHARED, digest_of, last_commit

_LONGEST_RUN_S = 300
#: Batches from the one that is saved to the last one at which the process may be killed.
_MOST_LATER = 4


class Life(NamedTuple):
    """What a process does: train, from the start or a checkpoint; save at batches; die at one, unless 0."""

    folder: Path
    resume: Path | None = None
    save_at: tuple[int, ...] = ()
    kill_at: int = 0


class Killing(Recorder):
    """Ends the process with SIGKILL where a recorder would raise; notes where the run stood when it saved."""

    def on_train_batch_end(self, batch: Any, logs: dict[str, Any]) -> None:
        trainer = self._trainer
        kill_at, self._kill_at = self._kill_at, 0
        super().on_train_batch_end(batch, logs)
        self._kill_at = kill_at
        if trainer.micro_step in self._save_at:
            num_batches = None if trainer.loader is None else trainer.loader.num_batches()
            place = {
                "inside_step": trainer.micro_step % trainer.batches_per_step() != 0,
                "inside_epoch": num_batches is None or trainer.micro_step % num_batches != 0,
            }
            (Path(trainer.configs.output_dir) / "place.json").write_text(json.dumps(place))
        if trainer.micro_step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def _live(module: str, name: str, life: Life) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    torch.set_num_threads(1)
    trainer: BaseTrainer = getattr(importlib.import_module(module), name)(life.folder)
    recorder = Killing(trainer, save_at=life.save_at, kill_at=life.kill_at)
    trainer.add_callback(recorder)
    trainer.train(life.resume)
    write_checkpoint(trainer._snapshot(), life.folder / "end")
    told = {"curve": list(recorder.curve.items()), "sources": _sources(trainer)}
    (life.folder / "told.json").write_text(json.dumps(told))


def _sources(trainer: BaseTrainer) -> list[str]:
    """The files that decide how this trainer goes on."""
    kinds = [*type(trainer).__mro__, *(type(module) for module in trainer.model.modules())]
    files = (getattr(sys.modules[kind.__module__], "__file__", None) for kind in kinds)
    ours = {Path(file) for file in files if file and Path(file).is_relative_to(ROOT / "workers")}
    return sorted({"workers/train/base", *SHARED, *(path.relative_to(ROOT).as_posix() for path in ours)})


class Lives:
    """Runs of one variant under a folder."""

    def __init__(self, make: MakeTrainer, folder: Path) -> None:
        self._make = make
        self._folder = folder
        self._context = _server()
        self.whole = self._run(Life(folder / "whole"))
        self.num_batches = max(self.whole.curve)
        self.sources: list[str] = json.loads((folder / "whole" / "told.json").read_text())["sources"]

    def broken(self, name: str, save_at: int, kill_at: int) -> tuple[float, dict[str, bool]]:
        """Save, kill, resume: the greatest difference from the whole run, and the place it was saved at."""
        folder = self._killed(Life(self._folder / name, save_at=(save_at,), kill_at=kill_at))
        resumed = self._run(Life(folder, resume=saved_at(folder, save_at)))
        return self._difference(resumed, save_at), json.loads((folder / "place.json").read_text())

    def broken_anywhere(self, name: str, kill_at: int) -> float:
        """Kill, and resume from the newest checkpoint that the trainer wrote by itself."""
        folder = self._killed(Life(self._folder / name, kill_at=kill_at))
        resumed = self._run(Life(folder, resume=folder))
        return self._difference(resumed, min(resumed.curve) - 1)

    def _difference(self, resumed: Run, saved_at: int) -> float:
        rest = {batch: loss for batch, loss in self.whole.curve.items() if batch > saved_at}
        if rest.keys() != resumed.curve.keys():
            return math.inf
        curves = max((abs(loss - resumed.curve[batch]) for batch, loss in rest.items()), default=0.0)
        return max(curves, difference(self.whole, resumed))

    def _killed(self, life: Life) -> Path:
        ended = self._process(life)
        if ended != -signal.SIGKILL:
            raise RuntimeError(f"{life} was to be killed and ended with {ended}")
        return life.folder

    def _run(self, life: Life) -> Run:
        ended = self._process(life)
        if ended != 0:
            raise RuntimeError(f"{self._make.__name__} in {life} ended with {ended}")
        told = json.loads((life.folder / "told.json").read_text())
        end = life.folder / "end"
        state = json.loads((end / STATE_FILE).read_text())["state"]
        state.pop("logs")
        tensors = {**load_file(end / MODEL_FILE), **load_file(end / TRAINING_FILE)}
        return Run(dict(told["curve"]), tensors, json.dumps(state))

    def _process(self, life: Life) -> int | None:
        life.folder.mkdir(parents=True, exist_ok=True)
        child = self._context.Process(target=_live, args=(self._make.__module__, self._make.__name__, life))
        child.start()
        child.join(_LONGEST_RUN_S)
        if child.is_alive():
            child.kill()
            child.join()
        return child.exitcode


def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    modules = {make.__module__ for makes in variants().values() for make in makes}
    # torch imports its compiler when the first optimizer is made.
    context.set_forkserver_preload([*sorted(modules), "tests.workers.train.kills", "torch._dynamo"])
    return context


def kill_and_resume(trainer: str, num_kills: int, seed: int, folder: Path) -> Iterator[Kill]:
    """Kills dealt out over the trainer's variants in a random order."""
    chance = random.Random(f"{trainer} {seed}")  # noqa: S311  so that a kill can be repeated
    makes = list(variants()[trainer])
    chance.shuffle(makes)
    lives: dict[MakeTrainer, Lives] = {}
    for number in range(num_kills):
        make = makes[number % len(makes)]
        if make not in lives:
            lives[make] = Lives(make, folder / make.__name__)
        life = lives[make]
        save_at = chance.randrange(1, life.num_batches)
        kill_at = chance.randint(save_at, min(life.num_batches, save_at + _MOST_LATER))
        found, place = life.broken(str(number), save_at, kill_at)
        yield Kill(
            trainer=trainer,
            variant=make.__name__,
            seed=seed,
            saved_at=save_at,
            killed_at=kill_at,
            num_batches=life.num_batches,
            difference=found if math.isfinite(found) else None,
            sources=life.sources,
            sources_sha256=digest_of(life.sources),
            commit=last_commit(life.sources),
            **place,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, keep what came out in the place of what is old, write the report; 0 when everything was exact."""
    parser = argparse.ArgumentParser(prog="make training-resume", description=__doc__)
    parser.add_argument("--trainer", choices=sorted(variants()), help="all of them when it isn't given")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    exact = True
    for trainer in [chosen.trainer] if chosen.trainer else sorted(variants()):
        forget_old(trainer)
        with tempfile.TemporaryDirectory() as folder:
            for kill in kill_and_resume(trainer, chosen.kills, chosen.seed, Path(folder)):
                exact &= kill.difference == 0
                add_kill(kill)
                sys.stdout.write(
                    f"{trainer} {kill.variant}: saved at {kill.saved_at}, killed at {kill.killed_at}"
                    f" of {kill.num_batches}: {kill.difference}\n"
                )
                sys.stdout.flush()
    write_report(["--report-only"])
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
