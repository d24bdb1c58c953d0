"""Settings of the embed worker, read once from the environment."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from bus.settings import Count
from workers.process import WorkerSettings


class EmbedSettings(WorkerSettings, frozen=True, kw_only=True):
    """What an operator may set."""

    worker_pipelines: Annotated[
        tuple[str, ...], Meta(description="Pipelines to host; empty for all that are known.")
    ] = ()
    worker_batch_tokens: Annotated[
        Count, Meta(description="Padded tokens in a batch; an image counts as 128.")
    ] = 512
    worker_decode_threads: Annotated[
        Count, Meta(description="Threads that decode images and tokenise texts beside the device.")
    ] = 1
    worker_max_pixels: Annotated[
        Count, Meta(description="Images that claim more pixels are refused before they are decoded.")
    ] = 40_000_000
    worker_models_bytes: Annotated[
        Count,
        Meta(
            description="Deployed models that are kept loaded, and as files on disk: at most so many bytes."
        ),
    ] = 2 * 1024**3
    worker_models_dir: Annotated[
        Path | None,
        Meta(
            description="Folder for the files of deployed models, each worker's own; empty: a temporary one."
        ),
    ] = None
