"""Settings of the train worker, read once from the environment."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from bus.settings import Count, Seconds
from workers.process import WorkerSettings

Device = Literal["auto", "cpu", "cuda"]


class TrainSettings(WorkerSettings, frozen=True, kw_only=True):
    """What an operator may set."""

    train_device: Annotated[
        Device, Meta(description="What trainings run on; auto takes a GPU where there is one.")
    ] = "auto"
    train_processes: Annotated[
        Count | None,
        Meta(description="Processes that share each batch of a training. Empty: one for each GPU, or one."),
    ] = None
    train_slots: Annotated[Count, Meta(description="Trainings at a time.")] = 1
    train_data_slots: Annotated[
        Count, Meta(description="Data sets that are looked at, and generations that are made, at a time.")
    ] = 1
    training_data: Annotated[
        Path, Meta(description="Folder of the sample data sets that `make training-data` fetches.")
    ] = Path(".training-data")
    train_checkpoint_every_s: Annotated[
        Seconds, Meta(description="Seconds between two checkpoints: what a dead worker costs at most.")
    ] = 60.0
    train_watchdog_s: Annotated[
        Seconds, Meta(description="A training that makes no step for so many seconds is begun again.")
    ] = 300.0
    train_max_memory_bytes: Annotated[
        Count | None,
        Meta(description="Memory of one job in bytes; one that takes more fails. Empty: no limit."),
    ] = None
    train_cache_dir: Annotated[
        Path | None,
        Meta(description="Where fetched data sets and models are kept; empty: a temporary folder."),
    ] = None
    train_cache_bytes: Annotated[
        Count, Meta(description="Fetched files that are kept, in bytes; what was not used for longest goes.")
    ] = 10 * 1024**3
    train_prewarm: Annotated[
        bool, Meta(description="Keep a process with torch loaded ready for the next job.")
    ] = True
