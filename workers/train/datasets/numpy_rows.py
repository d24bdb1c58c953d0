"""NPZ files: arrays of pictures or numbers, read row by row. Nothing is ever unpickled."""

import io
import re
from collections.abc import Iterator
from itertools import repeat
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from workers.train.datasets.cleaning import clean_label, finite, shown
from workers.train.datasets.facts import BadRow, BadSource, Issue, Kind, Limits, Reading, Row, Split
from workers.train.datasets.members import Member
from workers.train.datasets.pictures import from_pixels
from workers.train.datasets.streams import Allowance, Read, read_exactly
from workers.train.datasets.zips import ZipArchive

_X = frozenset({"x", "images", "image", "data", "features"})
_Y = frozenset({"y", "labels", "label", "targets", "target", "classes"})
_SPLITS: dict[str, Split] = {"train": "train", "test": "test", "val": "test", "valid": "test"}
_UNLABELLED = -1
_MAX_HEADER_BYTES = 64 << 10
#: What NumPy raises on headers that are none: they are Python's literals, and it mends those of Python 2.
_DAMAGE = (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError, TokenError)
_VERSIONS = {(1, 0): (2, npy.read_array_header_1_0), (2, 0): (4, npy.read_array_header_2_0)}
_COLOURED = (1, 3, 4)
_PICTURE_AXES = (3, 4)


class Array(NamedTuple):
    """An array inside the file, opened: ``read`` gives the bytes of its rows."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Read

    def rows(self) -> Iterator[np.ndarray[Any, Any]]:
        """Row by row.

        Raises:
            BadRow: the file ends before.
        """
        num_bytes = self.dtype.itemsize * prod(self.shape[1:])
        for _ in range(self.shape[0]):
            raw = read_exactly(self.read, num_bytes)
            if len(raw) < num_bytes:
                raise BadRow("is cut off")
            yield np.frombuffer(raw, self.dtype).reshape(self.shape[1:])


def read_npz(path: Path, limits: Limits) -> Reading:
    """The rows of ``x`` and ``y`` (or images and labels), or of ``x_train`` and so on; numbered from 1 on.

    Raises:
        BadSource: no such arrays, or of a form that isn't read.
    """
    allowance = Allowance(limits.allowance_bytes(path.stat().st_size))
    members = _members(ZipArchive(path, allowance), limits)
    parts = _parts(members)
    if not parts:
        named = ", ".join(shown(name) for name in list(members)[:8]) or "none"
        raise BadSource(f"Arrays are {named}; looked for: x or images, y or labels, also as x_train, x_test.")
    opened = [
        (split, _open(members[x]), _open(members[y]) if y is not None else None) for split, x, y in parts
    ]
    kind, width = _kind(opened[0][1], limits)
    for _, x, y in opened:
        _check(x, y, opened[0][1], limits)
    if sum(x.shape[0] for _, x, _ in opened) > limits.max_rows:
        raise BadSource(f"It has more than {limits.max_rows:,} rows.")
    return Reading(kind, _rows(opened, kind, limits), width)


def _members(archive: ZipArchive, limits: Limits) -> dict[str, Member]:
    found: dict[str, Member] = {}
    for member in archive.members():
        if member.name.endswith(".npy"):
            found[member.name.removesuffix(".npy")] = member
        if len(found) > limits.max_columns:
            raise BadSource("It holds too many arrays.")
    return found


def _parts(names: dict[str, Member]) -> list[tuple[Split | None, str, str | None]]:
    """The arrays that belong together: split, name of the rows', name of the labels'."""
    rows: dict[str, str] = {}
    labels: dict[str, str] = {}
    for name in names:
        words = [word for word in re.split(r"[_\-. ]+", name.lower()) if word]
        split = next((word for word in words if word in _SPLITS), "")
        base = "_".join(word for word in words if word != split)
        if base in _X:
            rows.setdefault(split, name)
        elif base in _Y:
            labels.setdefault(split, name)
    order = [split for split in ("", *_SPLITS) if split in rows]
    return [(_SPLITS.get(split), rows[split], labels.get(split)) for split in order]


def _open(member: Member) -> Array:
    if member.problem is not None:
        raise BadSource(f"Array {shown(member.name)} {member.problem}.")
    read = member.open()
    try:
        magic = read_exactly(read, npy.MAGIC_LEN)
        length_bytes, parse = _VERSIONS[npy.read_magic(io.BytesIO(magic))]
        length = read_exactly(read, length_bytes)
        num_bytes = int.from_bytes(length, "little")
        if num_bytes > _MAX_HEADER_BYTES:
            raise BadSource(f"Array {shown(member.name)} has no header that can be read.")
        header = read_exactly(read, num_bytes)
        shape, is_fortran, dtype = parse(io.BytesIO(length + header), max_header_size=_MAX_HEADER_BYTES)
    except (*_DAMAGE, BadRow) as error:
        raise BadSource(f"Array {shown(member.name)} is damaged: its header can't be read.") from error
    if dtype.hasobject:
        raise BadSource(f"Array {shown(member.name)} holds pickled objects, which are never opened.")
    if is_fortran and len(shape) > 1:
        raise BadSource(f"Array {shown(member.name)} is in Fortran order: save it with ascontiguousarray.")
    if not shape or any(length < 0 for length in shape):
        raise BadSource(f"Array {shown(member.name)} has no rows.")
    return Array(member.name, shape, dtype, read)


def _kind(x: Array, limits: Limits) -> tuple[Kind, int]:
    if x.dtype.kind not in "uifb":
        raise BadSource(f"Array {shown(x.name)} is of type {x.dtype}, not of numbers.")
    axes = len(x.shape)
    if axes == 2:  # noqa: PLR2004  rows and columns
        if not 0 < x.shape[1] <= limits.max_columns:
            raise BadSource(f"Rows of {x.shape[1]:,} numbers; 1 to {limits.max_columns:,} are allowed.")
        return "numbers", x.shape[1]
    if axes not in _PICTURE_AXES or (axes == 4 and _channels_axis(x.shape) is None):  # noqa: PLR2004
        raise BadSource(f"Array {shown(x.name)} has shape {x.shape}; looked for (N, H, W[, C]) or (N, F).")
    pixels = prod(x.shape[1:])
    if not 0 < pixels <= min(limits.max_pixels, limits.max_picture_bytes // x.dtype.itemsize):
        raise BadSource(f"Pictures of shape {x.shape[1:]}; they are empty or too large.")
    return "images", 0


def _channels_axis(shape: tuple[int, ...]) -> int | None:
    """Where the channels of a picture of a row stand: last (2), first (0), or nowhere."""
    if shape[3] in _COLOURED:
        return 2
    return 0 if shape[1] in _COLOURED else None


def _check(x: Array, y: Array | None, first: Array, limits: Limits) -> None:
    if len(x.shape) != len(first.shape) or (len(x.shape) == 2 and x.shape != (x.shape[0], first.shape[1])):  # noqa: PLR2004
        raise BadSource(f"Arrays {shown(first.name)} and {shown(x.name)} have rows of different shape.")
    _kind(x, limits)
    if y is None:
        return
    if y.shape[0] != x.shape[0]:
        raise BadSource(f"{x.shape[0]:,} rows in {shown(x.name)}, but {y.shape[0]:,} in {shown(y.name)}.")
    if prod(y.shape[1:]) != 1 or y.dtype.kind not in "uifbUS":
        raise BadSource(f"Array {shown(y.name)} of shape {y.shape} should have one label a row.")
    if not 0 < y.dtype.itemsize <= limits.max_field_bytes:
        raise BadSource(f"Labels of {shown(y.name)} are empty or too long.")


def _rows(
    parts: list[tuple[Split | None, Array, Array | None]], kind: Kind, limits: Limits
) -> Iterator[Row | Issue]:
    number = 0
    for split, x, y in parts:
        try:
            for values, label in zip(x.rows(), y.rows() if y else repeat(None), strict=False):
                number += 1
                yield _row(number, kind, values, label, split, limits)
        except BadRow as error:
            raise BadSource(f"Array {shown(x.name)} or its labels {error}, after row {number}.") from error


def _row(
    number: int, kind: Kind, values: np.ndarray[Any, Any], label: np.ndarray[Any, Any] | None,
    split: Split | None, limits: Limits,
) -> Row | Issue:  # fmt: skip
    try:
        name = None if label is None else _label(label)
        if kind == "numbers":
            return Row(number, finite(values.astype(np.float64)), name, split)
        return Row(number, from_pixels(_pixels(values), limits), name, split)
    except BadRow as error:
        return Issue(number, str(error))


def _label(label: np.ndarray[Any, Any]) -> str | None:
    try:
        value = label.reshape(-1)[0].item()
    except (ValueError, SystemError) as error:
        # CPython says it of a number past the last character, to NumPy, which passes it on.
        raise BadRow("label holds a sign that is none") from error
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    return None if value == _UNLABELLED and not isinstance(value, bool) else clean_label(value)


def _pixels(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pixels in 0..255, channels last; floats are in 0..1.

    Raises:
        BadRow: a value is outside of that, or no number.
    """
    if values.ndim == 3 and _channels_axis((0, *values.shape)) == 0:  # noqa: PLR2004
        values = np.moveaxis(values, 0, -1)
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind in "ui":
        if values.min() < 0 or values.max() > 255:  # noqa: PLR2004
            raise BadRow("pixels are outside of 0 to 255")
        return values.astype(np.uint8)
    wide = values.astype(np.float32)
    if not np.isfinite(wide).all():
        raise BadRow("pixels are no finite numbers")
    if wide.min() < 0 or wide.max() > 1:
        raise BadRow("pixels are outside of 0 to 1")
    return np.asarray(np.rint(wide * 255), np.uint8)
