"""A training inside a child: build, resume, train, stop when asked, export."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from workers.train._towhee import Callback
from workers.train.base import BaseTrainer
from workers.train.report import CheckpointSaved, Evaluated, Fact, Progress, Samples, ignore
from workers.train.service.child.talking import Tell
from workers.train.service.frames import Exported, Phase, SampleWritten, Started, Stopped, Train
from workers.train.together import Together

#: Beside the checkpoint that goes on, a trainer looks at the best one at its end.
BEST = "best"
#: Relative, because the model's card names it: neither its reader nor its digest is to depend on our folders.
_RUN_FOLDER = "run"
#: Least seconds between two tellings of numbers, and the length of an evaluation that is worth a word.
_PACE_S, _LONG_S = 0.25, 1.0
_SUFFIXES = {"image/png": ".png", "text/plain": ".txt"}


class StopAsked(Exception):
    """The training was told to stop, and a checkpoint is being written."""


class Means(NamedTuple):
    """What a training is done with.

    ``modules`` build and read (see `Plan`); ``device`` None takes a GPU if there is one, and ``label`` is its
    name; ``processes`` train together, of which the first one tells what happens.
    """

    modules: tuple[ModuleType, ModuleType]
    device: str | None
    label: str
    processes: int
    is_first: bool


class StopWhenAsked(Callback):
    """Ends a training after a step, with a checkpoint; it goes on from there exactly.

    It does not wait for the evaluation that belongs to a training's end, which may take longer than anybody
    who has asked will wait. Several processes stop where all of them pause, alone one stops at the next step.
    """

    def __init__(self, trainer: Together, stop: threading.Event) -> None:
        super().__init__()
        self._trainer = trainer
        self._stop = stop

    def on_train_begin(self, logs: dict[str, Any]) -> None:
        """It was asked while the trainer was built: there is nothing to keep."""
        del logs
        if self._trainer.agreed(self._stop.is_set()):
            raise StopAsked

    def on_train_batch_end(self, batch: Any, logs: dict[str, Any]) -> None:  # noqa: ANN401  Towhee's hook
        """Stop when a step is whole."""
        del batch, logs
        if self._trainer.processes.total == 1 and self._stop.is_set():
            self._stop_after_step()

    def at_pause(self) -> None:
        """Stop together when a step is whole."""
        if self._trainer.processes.total > 1 and self._trainer.agreed(self._stop.is_set()):
            self._stop_after_step()

    def _stop_after_step(self) -> None:
        trainer = self._trainer
        if trainer.micro_step % trainer.batches_per_step() == 0:
            trainer.checkpoint(f"step_{trainer.global_step}")
            raise StopAsked


class TellPhases(Callback):
    """Says when a training evaluates, unless that takes hardly longer than a step."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell
        self._began = 0.0
        self._is_long = True

    def on_eval_begin(self, logs: dict[str, Any]) -> None:
        """From here on no step is made."""
        del logs
        self._began = time.monotonic()
        if self._is_long:
            self._tell(Phase(name="evaluating"))

    def on_eval_end(self, logs: dict[str, Any]) -> None:
        """And from here on they are."""
        del logs
        if self._is_long:
            self._tell(Phase(name="training"))
        self._is_long = time.monotonic() - self._began >= _LONG_S


def run_training(task: Train, means: Means, *, tell: Tell, stop: threading.Event) -> None:
    """Train to the end and export, or to where it is told to stop.

    What the first of several processes does for all is the export, and reporting.

    Raises:
        TrainingDiverged, InvalidConfig, CannotTrain: another attempt would fail as well.
    """
    run, datasets = means.modules
    work = Path(task.work)
    os.chdir(work)
    tell(Phase(name="preparing"))
    prepared = datasets.open_prepared(Path(task.dataset))
    report = reporter(work, tell) if means.is_first else ignore
    parent = None if task.parent is None else Path(task.parent)
    trainer: Together = run.build_trainer(
        task.spec,
        prepared,
        Path(_RUN_FOLDER),
        report,
        parent=parent,
        device=means.device,
        checkpoint_every_s=task.checkpoint_every_s,
        processes=means.processes,
    )
    stopping = StopWhenAsked(trainer, stop)
    trainer.add_callback(stopping)
    trainer.at_pause = stopping.at_pause
    trainer.add_callback(TellPhases(tell))
    tell(Started(total_steps=run.total_steps(trainer), device=means.label))
    checkpoint = None if task.checkpoint is None else Path(task.checkpoint)
    if checkpoint is not None and means.is_first:
        _take_best(checkpoint, trainer)
    tell(Phase(name="training"))
    try:
        trainer.train(checkpoint)
    except StopAsked:
        tell(Stopped(step=trainer.global_step))
        return
    if means.is_first:
        _export(task, means, trainer, prepared, tell)


def _export(task: Train, means: Means, trainer: Together, prepared: object, tell: Tell) -> None:
    tell(Phase(name="exporting"))
    folder = Path(task.work) / "model"
    exported = means.modules[0].export_model(trainer, prepared, folder, data_name=task.dataset_name)
    tell(
        Exported(
            folder=str(folder),
            sha256=exported.sha256,
            dimension=exported.dimension,
            modality=exported.modality,
            metrics=exported.metrics,
            generates=exported.generates,
        )
    )


class PacedNumbers:
    """Tells of progress and evaluations a few times a second: short epochs end more often than that.

    Who reads them makes two reports a second of them, so the newest of each is all that is kept.
    """

    def __init__(self, tell: Tell, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._told_at = float("-inf")
        self._held: dict[type[Progress | Evaluated], Progress | Evaluated] = {}
        # A checkpoint is told of by the thread that wrote it.
        self._one_fact = threading.RLock()

    def tell(self, fact: Progress | Evaluated) -> None:
        """Tell it now, or hold it until it is time, or until something else is told."""
        with self._one_fact:
            self._held[type(fact)] = fact
            if self._clock() - self._told_at >= _PACE_S:
                self.flush()

    def flush(self) -> None:
        """Tell what is held."""
        with self._one_fact:
            self._tell_all()

    def _tell_all(self) -> None:
        held, self._held = self._held, {}
        for fact in sorted(held.values(), key=lambda fact: fact.step):
            self._tell(fact)
        if held:
            self._told_at = self._clock()


def reporter(work: Path, tell: Tell) -> Callable[[Fact], None]:
    """What a trainer calls: large things go to files, the rest through the pipe, numbers at a pace."""
    counted = iter(range(1, 1 << 62))
    numbers = PacedNumbers(tell)

    def report(fact: Fact) -> None:
        if isinstance(fact, Progress | Evaluated):
            numbers.tell(fact)
            return
        # In the order in which it happened.
        numbers.flush()
        match fact:
            case Samples():
                path = work / f"sample-{next(counted)}{_SUFFIXES[fact.media_type]}"
                path.write_bytes(fact.content)
                tell(
                    SampleWritten(step=fact.step, name=fact.name, media_type=fact.media_type, path=str(path))
                )
            case CheckpointSaved():
                if Path(fact.path).name != BEST:
                    linked = _link(Path(fact.path), work / f"checkpoint-{next(counted)}")
                    tell(msgspec.structs.replace(fact, path=str(linked)))
            case _:
                tell(fact)

    return report


def _link(checkpoint: Path, target: Path) -> Path:
    """Make links of a checkpoint, and of the best one there is: they stay when the trainer removes them."""
    target.mkdir()
    for file in checkpoint.iterdir():
        os.link(file, target / file.name)
    best = checkpoint.parent / BEST
    if best.is_dir():
        (target / BEST).mkdir()
        for file in best.iterdir():
            os.link(file, target / BEST / file.name)
    return target


def _take_best(checkpoint: Path, trainer: BaseTrainer) -> None:
    """Put the best checkpoint, where there is one, where the trainer looks for it."""
    if (checkpoint / BEST).is_dir():
        shutil.copytree(checkpoint / BEST, trainer.checkpoint_folder / BEST, dirs_exist_ok=True)
