"""A file inside an archive, and what its name may be."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from workers.train.datasets.facts import BadRow
from workers.train.datasets.streams import reader_of

_MAX_NAME = 1024
_DRIVE = re.compile(r"[A-Za-z]:")
_LITTER = "__MACOSX"


class Member(NamedTuple):
    """A file of an archive. ``problem`` says why it must not be read, where that is so.

    ``chunks()`` unpacks it piece by piece and raises `BadRow` where it is damaged. What comes out of a tar
    has to be read before the next member is asked for.
    """

    name: str
    num_bytes: int
    problem: str | None
    chunks: Callable[[], Iterator[bytes]]

    def read(self, most: int) -> bytes:
        """All of it.

        Raises:
            BadRow: it is damaged, or larger than ``most`` bytes.
        """
        if self.problem is not None:
            raise BadRow(self.problem)
        pieces, num_bytes = [], 0
        for piece in self.chunks():
            num_bytes += len(piece)
            if num_bytes > most:
                raise BadRow(f"is larger than {most >> 20:,} MiB")
            pieces.append(piece)
        return b"".join(pieces)

    def open(self) -> Callable[[int], bytes]:
        """Its bytes, read as a file."""
        return reader_of(self.chunks())


class Archive(Protocol):
    """An archive that can be gone through any number of times."""

    def members(self) -> Iterator[Member]:
        """Its files in its own order, without folders."""


def clean_name(raw: str) -> tuple[str, str | None]:
    """A member's name with single slashes, and why it is not one to trust, where that is so.

    Nothing is ever written under such a name, but one that leads elsewhere was made to do harm.
    """
    name = raw.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    clean = "/".join(parts)
    if name.startswith("/") or _DRIVE.match(name) or ".." in parts:
        return clean, "leads outside of the archive"
    if "\0" in name or len(name) > _MAX_NAME:
        return clean, "has a name that is no name"
    return clean, None


def is_ignored(name: str) -> bool:
    """Whether a file is there for somebody's desktop: hidden ones, and what macOS adds."""
    return any((part.startswith(".") and part != "..") or part == _LITTER for part in name.split("/"))
