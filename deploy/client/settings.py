"""Settings of the commands that speak to a server over HTTP."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Whom `towhee-api train` and `towhee-api embed` ask, and as whom."""

    server: Annotated[
        str,
        Meta(
            pattern="^https?://.",
            examples=["https://host"],
            description="Server that `train` and `embed` ask; the same as `--server`.",
        ),
    ] = "http://127.0.0.1:8000"
    key: Annotated[
        str | None,
        Meta(description="API key for `train` and `embed`; a `--key` that is typed is seen by other users."),
    ] = None
    key_file: Annotated[Path | None, Meta(description="File with the API key; the same as `--key-file`.")] = (
        None
    )
