"""Which format a file has: by its first bytes, and by its name where bytes can't tell."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from workers.train.datasets.archives import Packed, read_archive
from workers.train.datasets.delimited import read_delimited
from workers.train.datasets.facts import BadSource, FileSource, Limits, Reading
from workers.train.datasets.jsonlines import read_json_lines
from workers.train.datasets.numpy_rows import read_npz
from workers.train.datasets.parquet_rows import read_parquet
from workers.train.datasets.plain import read_plain
from workers.train.datasets.streams import Allowance, Read, file_reader, read_exactly, reader_of
from workers.train.datasets.tars import BLOCK_BYTES, TarArchive, parse_header
from workers.train.datasets.unpacking import packing_of, unpacked
from workers.train.datasets.zips import ZipArchive

_FORMATS = ".zip, .tar, .tar.gz, .npz, .csv, .tsv, .jsonl, .parquet, .txt"
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
#: What text files are named, and what media types they are sent under.
_TEXT_READERS: dict[str, Callable[[Read, Limits], Reading]] = {
    ".csv": lambda read, limits: read_delimited(read, None, limits),
    ".tsv": lambda read, limits: read_delimited(read, "\t", limits),
    ".tab": lambda read, limits: read_delimited(read, "\t", limits),
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json_lines,
    ".txt": read_plain,
    ".text": read_plain,
    ".md": read_plain,
}
_SUFFIXES = {
    "text/csv": ".csv", "text/tab-separated-values": ".tsv", "application/jsonl": ".jsonl",
    "application/x-ndjson": ".jsonl", "application/json": ".jsonl", "text/plain": ".txt",
}  # fmt: skip
_BINARY_SUFFIXES = frozenset(
    {".zip", ".npz", ".parquet", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".tbz2", ".txz"}
)


def open_source(source: FileSource, work: Path, limits: Limits) -> Reading:
    """Open a file as what it is. ``work`` is a folder of our own for what has to be unpacked.

    Raises:
        BadSource: nobody knows what it is, or it can't be used.
    """
    with source.path.open("rb") as file:
        start = file.read(BLOCK_BYTES)
    if not start:
        raise BadSource("The file is empty.")
    suffix = PurePosixPath(source.name.lower()).suffix
    size = source.path.stat().st_size
    if start.startswith(_ZIP_STARTS):
        return _of_zip(source.path, suffix, work, limits)
    if start.startswith((b"PAR1", b"PARE")):
        return read_parquet(source.path, limits)
    packing = packing_of(start)
    if packing is not None:
        chunks = unpacked(source.path, packing, Allowance(limits.allowance_bytes(size)))
        start = read_exactly(reader_of(chunks), BLOCK_BYTES)
    if parse_header(start) is not None:
        return read_archive(
            Packed(TarArchive(source.path, packing, limits.allowance_bytes(size)), work, limits)
        )
    if packing is not None:
        raise BadSource(f"The file is packed with {packing}, but there is no tar archive in it: unpack it.")
    if suffix in _BINARY_SUFFIXES:
        raise BadSource(f"The file is named {suffix}, but its first bytes say that it is no such file.")
    reader = _TEXT_READERS.get(suffix) or _TEXT_READERS.get(_SUFFIXES.get(source.media_type, ""))
    if reader is None:
        raise BadSource(f"The file is of a format that isn't read. Formats: {_FORMATS}.")
    return reader(file_reader(source.path), limits)


def _of_zip(path: Path, suffix: str, work: Path, limits: Limits) -> Reading:
    if suffix == ".npz" or (suffix != ".zip" and _holds_arrays(path, limits)):
        return read_npz(path, limits)
    archive = ZipArchive(path, Allowance(limits.allowance_bytes(path.stat().st_size)))
    return read_archive(Packed(archive, work, limits))


def _holds_arrays(path: Path, limits: Limits) -> bool:
    archive = ZipArchive(path, Allowance(limits.free_unpacked_bytes))
    return any(member.name.endswith(".npy") for _, member in zip(range(8), archive.members(), strict=False))
