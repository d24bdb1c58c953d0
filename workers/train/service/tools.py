"""What work on a job needs, whatever the job is."""

import logging
from collections.abc import Callable

import msgspec

from bus.objects import ObjectStore
from bus.port import Bus
from workers.train.report import CheckpointSaved, Evaluated, Finished, Progress, Warned
from workers.train.service.cache import FileCache
from workers.train.service.children import Child, Nursery
from workers.train.service.ends import Hopeless, Lost, StoppedEarly
from workers.train.service.frames import (
    Exported,
    Failed,
    Generated,
    Phase,
    ResourceLimits,
    SampleWritten,
    Started,
    Stopped,
    Task,
    Validated,
)
from workers.train.service.watching import Watch, WatchSettings

logger = logging.getLogger(__name__)

#: What a child tells on the way.
Fact = Phase | Started | Progress | Evaluated | CheckpointSaved | SampleWritten | Warned | Finished
Product = Exported | Validated | Generated


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds."""

    checkpoint_every_s: float = 60.0
    #: How late a cancellation may be seen whose broadcast is lost, and how often a server hears of a job.
    heartbeat_every_s: float = 1.0
    #: How long a training that is cancelled may take for a last checkpoint.
    cancel_s: float = 0.8
    #: How long work in hand may take once the worker stops, in all.
    drain_s: float = 30.0
    hold_every_s: float = 4.0


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What work on jobs needs."""

    bus: Bus
    objects: ObjectStore
    cache: FileCache
    nursery: Nursery
    #: Children that only train, of several processes each; None: those of the nursery train.
    crews: Nursery | None = None
    pool: str
    worker_id: str
    watch: WatchSettings
    limits: ResourceLimits = ResourceLimits()
    times: Times = Times()
    #: Whether the next child is started before it is needed.
    prewarms: bool = True

    @property
    def trainees(self) -> Nursery:
        """Where trainings get their children."""
        return self.crews or self.nursery


async def do_task(tools: Tools, child: Child, task: Task, take: Callable[[Fact], None]) -> Product:
    """Let a child do a task, watched, and give what came of it; ``take`` gets the facts on the way.

    Raises:
        Hopeless: it can't be done.
        Lost: the child has died, or was silent for too long.
        StoppedEarly: it was told to stop.
    """
    async with Watch(child, tools.watch) as watch:
        await child.send(task)
        async for frame in child.told():
            watch.saw()
            match frame:
                case Exported() | Validated() | Generated():
                    return frame
                case Failed():
                    raise Hopeless(frame.code, frame.message, advice=frame.advice, row=frame.row)
                case Stopped():
                    raise StoppedEarly
                case Phase():
                    watch.is_strict = frame.name == "training"
                    take(frame)
                case Started() | Progress() | Evaluated() | CheckpointSaved() | SampleWritten() | Warned():
                    take(frame)
                case _:
                    logger.debug("a child has told %r", frame)
        how = await child.bury()
        if watch.verdict is not None:
            raise watch.verdict
    if child.is_out_of_time:
        raise Hopeless(
            "QUOTA_EXCEEDED",
            f"The job computed for more than {tools.limits.cpu_s} s.",
            advice="Use fewer data.",
        )
    raise Lost(how)
