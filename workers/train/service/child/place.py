"""Which of the processes of one training this is, and how they find each other.

torchrun says it in the environment. They meet over a file in the folder of their crew, so that nobody else
can join, and nothing listens on any address but loopback.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import IO, NamedTuple

#: What torchrun says of a process. ``LOCAL_RANK`` stays: it is the number of its GPU.
_RANK, _TOTAL = "RANK", "WORLD_SIZE"


class Place(NamedTuple):
    """One process of a crew: its number, how many there are, and the folder that they share."""

    rank: int
    total: int
    folder: Path

    @property
    def is_first(self) -> bool:
        """Whether this one gets the orders and tells what comes of them."""
        return self.rank == 0

    @property
    def meeting(self) -> str:
        """Where those meet that train, as a URL."""
        return (self.folder / "meeting").as_uri()


def take_place(environ: MutableMapping[str, str]) -> Place:
    """Read what torchrun has said, and take it away.

    A training may take fewer processes than there are, and they meet elsewhere: nobody else is to follow it.
    """
    return Place(int(environ.pop(_RANK, "0")), int(environ.pop(_TOTAL, "1")), Path.cwd())


def make_relays(folder: Path, total: int) -> None:
    """Make the pipes through which the first process passes orders on to the others."""
    for rank in range(1, total):
        os.mkfifo(_relay(folder, rank), 0o600)


def open_relays(place: Place) -> list[IO[bytes]]:
    """Open the pipes to the other processes; waits until each of them is ready."""
    return [_relay(place.folder, rank).open("wb") for rank in range(1, place.total)]


def open_orders(place: Place) -> IO[bytes]:
    """Open the pipe from the first process; waits until that is ready."""
    return _relay(place.folder, place.rank).open("rb")


def _relay(folder: Path, rank: int) -> Path:
    return folder / f"orders-{rank}"
