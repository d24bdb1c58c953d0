"""ZIP files of any size, written while they are read: nothing is held but the chunk in hand."""

import zipfile
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from io import RawIOBase
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: Readable by everybody who unpacks it, writable by them alone.
_MODE = 0o100644 << 16


class ZipEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the archive: its path there, its time, and its content."""

    name: str
    at: datetime
    chunks: AsyncIterator[bytes]


async def zip_stream(entries: Iterable[ZipEntry]) -> AsyncIterator[bytes]:
    """Give the bytes of a ZIP file, its members stored as they are: weights hardly shrink.

    Sizes and checksums follow each member, as the format has it where they are not known before.
    """
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, mode="w", compression=zipfile.ZIP_STORED) as archive:
        for entry in entries:
            info = zipfile.ZipInfo(entry.name, date_time=entry.at.timetuple()[:6])
            info.external_attr = _MODE
            with archive.open(info, mode="w", force_zip64=True) as member:
                async for chunk in entry.chunks:
                    member.write(chunk)
                    yield outlet.take()
            yield outlet.take()
    yield outlet.take()


class _Outlet(RawIOBase):
    """Where the archive writes to. It can't seek, so that nothing is ever gone back to."""

    def __init__(self) -> None:
        super().__init__()
        self._written = bytearray()

    def writable(self) -> bool:
        """Whether it can be written to."""
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        """Take all of it."""
        self._written += data
        return len(memoryview(data).cast("B"))

    def take(self) -> bytes:
        """Give what was written since the last time."""
        taken = bytes(self._written)
        self._written.clear()
        return taken
