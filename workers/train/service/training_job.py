"""A training, seen from the supervisor: what the child needs, what it tells, and the model at the end."""

import asyncio
import math
import time
from functools import partial
from pathlib import Path

import msgspec

from bus.errors import ObjectNotFound
from bus.messages import (
    ModelExported,
    SamplesGenerated,
    StoredFiles,
    TrainingProgressed,
    TrainingWarned,
    TrainingWork,
    WorkClaimed,
    WorkStopped,
)
from bus.messages.registry import Modality
from workers.train.report import CheckpointSaved, Evaluated, Progress, Warned
from workers.train.service.cache import FileDamaged, bring_uncached
from workers.train.service.checkpoints import CheckpointUploads
from workers.train.service.children import Child
from workers.train.service.ends import Hopeless, Lost, Why
from workers.train.service.frames import Exported, Phase, SampleWritten, Started, Stop, Train
from workers.train.service.reporting import Attached, Draft, Reporter
from workers.train.service.storing import PATIENCE_S, persistently, store_files
from workers.train.service.tools import Fact, Tools, do_task

#: Phases in which a child can stop with a checkpoint.
_STOPS_GENTLY = {"preparing", "training", "evaluating"}
#: Of the time that a worker has to drain: for the child's last step, and for its checkpoint's way.
_SHARE_OF_CHILD, _SHARE_OF_UPLOAD = 0.4, 0.4
_CANCELLED_UPLOAD_S = 10.0
_LOST_UPLOAD_S = 10.0


class TrainingJob:
    """One attempt at a training."""

    def __init__(self, tools: Tools, claimed: WorkClaimed, work: TrainingWork, reporter: Reporter) -> None:
        self._tools = tools
        self._claimed = claimed
        self._work = work
        self._reporter = reporter
        before = None if work.checkpoint is None else work.checkpoint.stored.prefix
        self._uploads = CheckpointUploads(
            tools.objects, reporter, job_id=claimed.job_id, attempt=claimed.attempt, before=before
        )
        self._progress = ProgressMaker(claimed, work)
        self._child: Child | None = None
        self._phase = "fetching"
        self._killing: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def work(self) -> Draft:
        """Train, and give the job's last report.

        Raises:
            Hopeless, Lost, StoppedEarly, NotStarted, ObjectStoreError: see `Attempt`.
        """
        self._uploads.start()
        tools = self._tools
        child = self._child = await tools.trainees.take()
        task = await self._bring(child.folder)
        self._phase = "preparing"
        product = await do_task(tools, child, task, self._take)
        if not isinstance(product, Exported):
            raise Lost("has told of something else than a model")
        self._phase = "storing"
        await self._uploads.drain(within_s=PATIENCE_S)
        return await self._store(product)

    def stop(self, why: Why) -> bool:
        """Let the child stop by itself, if it can; False if it can't."""
        if self._child is None or self._phase == "fetching":
            return False
        times = self._tools.times
        if self._phase in _STOPS_GENTLY:
            grace_s = times.cancel_s if why is Why.CANCELLED else times.drain_s * _SHARE_OF_CHILD
            self._stopping = asyncio.create_task(self._child.send(Stop()))
            if self._killing is not None:
                self._killing.cancel()
            self._killing = asyncio.get_running_loop().call_later(grace_s, self._child.kill)
            return True
        # The model is about to be there: a worker that drains waits for it as long as it may.
        return why is Why.DRAINING

    async def leave(self, why: Why | None) -> Draft:
        """Store the last checkpoint; give the last report of a job that is cancelled."""
        upload_s = {
            None: _LOST_UPLOAD_S,
            Why.CANCELLED: _CANCELLED_UPLOAD_S,
            Why.DRAINING: self._tools.times.drain_s * _SHARE_OF_UPLOAD,
        }
        await self._uploads.drain(within_s=upload_s.get(why, 0.0))
        return partial(WorkStopped, step=self._progress.step)

    @property
    def spent_s(self) -> float:
        """Seconds that were computed for it."""
        return 0.0 if self._child is None else self._child.spent_s

    async def close(self) -> None:
        """Leave nothing behind."""
        if self._killing is not None:
            self._killing.cancel()
        if self._stopping is not None:
            await asyncio.gather(self._stopping, return_exceptions=True)
        await self._uploads.close()
        if self._child is not None:
            await self._child.clear()

    async def _bring(self, folder: Path) -> Train:
        """Fetch what the training reads."""
        tools, work = self._tools, self._work
        paths = {name: folder / name for name in ("dataset", "checkpoint", "parent", "work")}
        for path in paths.values():
            path.mkdir()
        try:
            await persistently(lambda: tools.cache.bring(work.dataset.stored, paths["dataset"]))
            if work.parent is not None:
                parent = work.parent
                await persistently(lambda: tools.cache.bring(parent, paths["parent"]))
        except ObjectNotFound as error:
            message = "The data set or the model to begin with is not there any more."
            raise Hopeless("NOT_FOUND", message) from error
        has_checkpoint = await self._bring_checkpoint(paths["checkpoint"])
        return Train(
            spec=work.spec,
            dataset=str(paths["dataset"]),
            dataset_name=work.dataset.name,
            work=str(paths["work"]),
            checkpoint=str(paths["checkpoint"]) if has_checkpoint else None,
            parent=None if work.parent is None else str(paths["parent"]),
            checkpoint_every_s=tools.times.checkpoint_every_s,
        )

    async def _bring_checkpoint(self, folder: Path) -> bool:
        checkpoint = self._work.checkpoint
        if checkpoint is None:
            return False
        try:
            await persistently(lambda: bring_uncached(self._tools.objects, checkpoint.stored, folder))
        except (ObjectNotFound, FileDamaged):
            message = f"The checkpoint of step {checkpoint.step} can't be read: it begins from the start."
            self._warn(0, "checkpoint_lost", message)
            return False
        return True

    def _take(self, fact: Fact) -> None:
        match fact:
            case Phase():
                self._phase = fact.name
            case Started():
                self._progress.start(fact)
                if self._tools.prewarms:
                    self._tools.trainees.warm()
            case Progress():
                self._reporter.progress(self._progress.of_step(fact))
            case Evaluated():
                self._reporter.progress(self._progress.of_evaluation(fact))
            case SampleWritten():
                draft = partial(SamplesGenerated, step=fact.step, name=fact.name, media_type=fact.media_type)
                path = Path(fact.path)
                self._reporter.add(draft, attached=Attached(path=path, suffix=path.suffix))
            case CheckpointSaved():
                self._uploads.offer(fact.step, Path(fact.path))
            case Warned():
                self._warn(fact.step, fact.code, fact.message)

    def _warn(self, step: int, code: str, message: str) -> None:
        self._reporter.add(partial(TrainingWarned, step=step, code=code, message=message))

    async def _store(self, exported: Exported) -> Draft:
        """Store the model, and last of all whose it is: with that it is complete."""
        model_id, objects = self._work.model_id, self._tools.objects
        folder, prefix = Path(exported.folder), f"models/{model_id}"
        owner = {
            "owner_id": self._claimed.owner_id,
            "model_id": model_id,
            "manifest_sha256": exported.sha256,
        }
        model = await persistently(lambda: store_files(objects, folder, prefix))
        (folder / "owner.json").write_bytes(msgspec.json.encode(owner))
        owned = await persistently(lambda: store_files(objects, folder, prefix, [folder / "owner.json"]))
        return partial(
            ModelExported,
            model_id=model_id,
            stored=StoredFiles(prefix=prefix, files=[*model.files, *owned.files]),
            sha256=exported.sha256,
            dimension=exported.dimension,
            modality=msgspec.convert(exported.modality, Modality | None),
            metrics=finite(exported.metrics),
            generates=exported.generates,
        )


class ProgressMaker:
    """Turns what a trainer tells into progress with the time that is left."""

    def __init__(self, claimed: WorkClaimed, work: TrainingWork) -> None:
        self._claimed = claimed
        self._max_seconds = work.spec.max_seconds
        self._total_steps = 0
        self._device = "cpu"
        self._first: tuple[int, float] | None = None
        self._last: TrainingProgressed | None = None
        #: The last step that is known of.
        self.step = 0 if work.checkpoint is None else work.checkpoint.step

    def start(self, started: Started) -> None:
        """The trainer is built."""
        self._total_steps = started.total_steps
        self._device = started.device

    def of_step(self, told: Progress) -> TrainingProgressed:
        """Progress after a step."""
        self.step = told.step
        if told.num_steps is not None:
            self._total_steps = told.num_steps
        return self._make(told.step, told.epoch, told.metrics)

    def of_evaluation(self, told: Evaluated) -> TrainingProgressed:
        """Progress after an evaluation: with what was known of the step before."""
        self.step = told.step
        before = {} if self._last is None else self._last.metrics
        return self._make(told.step, told.epoch, {**before, **told.metrics})

    def _make(self, step: int, epoch: int, metrics: dict[str, float]) -> TrainingProgressed:
        self._last = TrainingProgressed(
            job_id=self._claimed.job_id,
            attempt=self._claimed.attempt,
            # Whoever publishes it counts.
            number=0,
            step=step,
            total_steps=self._total_steps,
            epoch=epoch,
            metrics=finite(metrics),
            eta_s=self._left_s(step),
            device=self._device,
        )
        return self._last

    def _left_s(self, step: int) -> float | None:
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
        first_step, began = self._first
        if step <= first_step or self._total_steps < step:
            return None
        left_s = (now - began) / (step - first_step) * (self._total_steps - step)
        return left_s if self._max_seconds is None else max(0.0, min(left_s, began + self._max_seconds - now))


def finite(metrics: dict[str, float]) -> dict[str, float]:
    """Only the metrics that are numbers."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
