"""Files as people send them, whole and broken."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from workers.train.datasets import FileSource, Findings, Limits, validate

_MEGABYTE = 1 << 20


def look(tmp_path: Path, name: str, content: bytes, limits: Limits | None = None) -> Findings:
    """Validate a file of this name and content into ``tmp_path / "prepared"``."""
    path = tmp_path / "sent"
    path.write_bytes(content)
    return validate(FileSource(path=path, name=name), tmp_path / "prepared", limits)


@cache
def digits() -> tuple[np.ndarray[Any, Any], list[str]]:
    """Real handwritten digits, (N, 8, 8) uint8, and what they show."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # noqa: PLC0415  a second

    found = load_digits()
    return np.rint(found.images * 255 / 16).astype(np.uint8), [str(label) for label in found.target]


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """A picture's file."""
    return saved(Image.fromarray(pixels))


def saved(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


def digit_files(count: int, root: str = "digits/") -> dict[str, bytes]:
    """The first digits as files in class folders."""
    pictures, labels = digits()
    return {f"{root}{labels[at]}/{at:04}.png": png(pictures[at]) for at in range(count)}


def zipped(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def tarred(files: Mapping[str, bytes | tarfile.TarInfo], packing: str = "") -> bytes:
    """A tar archive; a header in the place of content is a member of its own kind."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{packing}") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return out.getvalue()


def linked(name: str, kind: bytes = tarfile.SYMTYPE, target: str = "/etc/passwd") -> tarfile.TarInfo:
    """A member that is no file."""
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header


def arrays(**named: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **named)  # type: ignore[arg-type]  # arrays by name, as its documentation has it
    return out.getvalue()


def parquet(columns: Mapping[str, Any], **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), out, **options)
    return out.getvalue()


def table(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def zeros(num_bytes: int) -> bytes:
    """Zeros packed by Deflate: one block of a mebibyte, over and over."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(_MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (num_bytes // _MEGABYTE) + packer.flush()


def raw_zip(
    name: str, packed: bytes, num_bytes: int, *, flags: int = 0, method: int = 8, crc: int = 0
) -> bytes:
    """A ZIP of one file that says of it whatever is wanted, in 64 bits."""
    encoded = name.encode()
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 45, flags, method, 0, 0, crc, 0, 0, len(encoded), 0)
    extra = struct.pack("<2H3Q", 1, 24, num_bytes, len(packed), 0)
    most = 0xFFFFFFFF
    entry = struct.pack(
        "<4s4B4H3L5H2L", b"PK\1\2", 45, 3, 45, 0, flags, method, 0, 0, crc, most, most, len(encoded),
        len(extra), 0, 0, 0, 0o100644 << 16, most,
    ) + encoded + extra  # fmt: skip
    start = len(local) + len(encoded) + len(packed)
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(entry), start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + len(entry), 1)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, most, most, 0)
    return local + encoded + packed + entry + end + locator + last


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, 1)
