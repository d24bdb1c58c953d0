"""Settings that only `towhee-api up` has."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta


class UpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything runs on this machine, and where it is kept."""

    data_dir: Annotated[
        Path, Meta(description="Folder of everything `up` keeps; the same as `--data-dir`.")
    ] = Path(".data")
    workers: Annotated[
        int, Meta(ge=1, le=64, description="Embedding workers that `up` starts; the same as `--workers`.")
    ] = 1
    trainers: Annotated[
        int,
        Meta(
            ge=0, le=16, description="Train workers that `up` starts, 0 for none; the same as `--trainers`."
        ),
    ] = 1
