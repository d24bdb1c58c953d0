"""Parquet files, read a few rows at a time."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workers.train.datasets.cleaning import clean_label, clean_split, finite, shown
from workers.train.datasets.columns import Roles, find_roles
from workers.train.datasets.facts import BadRow, BadSource, Issue, Limits, Reading, Row
from workers.train.datasets.records import row_of
from workers.train.datasets.streams import too_large

#: What a damaged file makes pyarrow raise.
_DAMAGE = (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, struct.error)
_BATCH_BYTES = 4 << 20
_MAX_BATCH_ROWS = 4096
_BUFFER_BYTES = 1 << 20
#: A group of rows has to be unpacked as its writer made it, one column page at a time at best.
_MAX_GROUP_BYTES = 1 << 30
_MAX_FOOTER_BYTES = 64 << 20
_MAX_DEPTH = 4


def read_parquet(path: Path, limits: Limits) -> Reading:
    """The rows of a Parquet file, numbered from 1.

    Raises:
        BadSource: it is damaged, encrypted, too large, or has no columns that fit.
    """
    _check_ends(path)
    try:
        with path.open("rb") as raw:
            file = pq.ParquetFile(raw, pre_buffer=False)
            schema, metadata = file.schema_arrow, file.metadata
    except _DAMAGE as error:
        raise _damaged() from error
    if len(schema) > limits.max_columns:
        raise BadSource(f"The table has {len(schema):,} columns; at most {limits.max_columns:,} are allowed.")
    if metadata.num_rows == 0:
        raise BadSource("The table has no rows.")
    roles = _roles(schema)
    allowed = limits.allowance_bytes(path.stat().st_size)
    sizes = [metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups)]
    if sum(sizes) > allowed:
        raise too_large(allowed)
    if max(sizes, default=0) > _MAX_GROUP_BYTES:
        raise BadSource("A row group of the Parquet file is larger than 1 GiB: write it with smaller ones.")
    rows = _rows(path, schema, metadata, roles, limits)
    return Reading(roles.kind, rows, width=len(roles.numbers))


def _damaged() -> BadSource:
    return BadSource("The Parquet file is damaged or cut off: it can't be read.")


def _check_ends(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        end = file.read(8)
    if end[4:] == b"PARE":
        raise BadSource("The Parquet file is encrypted: write it without a key.")
    if end[4:] != b"PAR1" or int.from_bytes(end[:4], "little") > min(size, _MAX_FOOTER_BYTES):
        raise _damaged()


def _roles(schema: pa.Schema) -> Roles:
    numeric, lists, pictures = set(), set(), set()
    for at, field in enumerate(schema):
        plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_integer(plain) or pa.types.is_floating(plain) or pa.types.is_boolean(plain):
            numeric.add(at)
        elif _is_words(plain):
            lists.add(at)
        elif _is_bytes(plain) or (
            pa.types.is_struct(plain)
            and plain.get_field_index("bytes") >= 0
            and _is_bytes(plain.field("bytes").type)
        ):
            pictures.add(at)
    roles = find_roles(schema.names, numeric=numeric, lists=lists, pictures=pictures)
    for role, at in roles.places.items():
        if role not in ("tokens", "tags", "image") and pa.types.is_nested(schema.field(at).type):
            raise BadSource(f"Column {shown(schema.names[at])} is nested: it should hold one value a row.")
    return roles


def _is_words(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    inner = kind.value_type
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_integer(inner))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _rows(
    path: Path, schema: pa.Schema, metadata: pq.FileMetaData, roles: Roles, limits: Limits
) -> Iterator[Row | Issue]:
    wanted = [schema.names[at] for at in (*roles.places.values(), *roles.numbers)]
    if len(set(schema.names)) < len(schema.names):
        raise BadSource("Two columns of the Parquet file have the same name.")
    number = 0
    # Values that a file holds once for many rows stay held once.
    texts = [name for name in wanted if pa.types.is_string(schema.field(name).type)]
    with path.open("rb") as raw:
        try:
            file = pq.ParquetFile(
                raw, pre_buffer=False, buffer_size=_BUFFER_BYTES, read_dictionary=texts or None
            )
        except _DAMAGE as error:
            raise _damaged() from error
        for group in range(metadata.num_row_groups):
            batches = file.iter_batches(
                _batch_rows(metadata.row_group(group)), [group], columns=wanted, use_threads=False
            )
            while (batch := _next(batches, roles, schema)) is not None:
                yield from _rows_of(batch, number, roles, limits)
                number += batch.num_rows


class _Batch(NamedTuple):
    """A few rows: columns by what they are for, and numbers as a matrix."""

    columns: dict[str, Any]
    names: list[str]
    matrix: np.ndarray[Any, np.dtype[np.float64]] | None
    num_rows: int


def _next(batches: Iterator[pa.RecordBatch], roles: Roles, schema: pa.Schema) -> _Batch | None:
    try:
        batch = next(batches, None)
        if batch is None:
            return None
        _check_indices(batch)
        columns = {role: batch.column(schema.names[at]) for role, at in roles.places.items()}
        names = [schema.names[at] for at in roles.numbers]
        matrix = _matrix([batch.column(name) for name in names]) if names else None
        return _Batch(columns, names, matrix, batch.num_rows)
    except MemoryError:
        # pyarrow's is one of its own errors, too, and says nothing of the file.
        raise
    except (*_DAMAGE, KeyError) as error:
        raise _damaged() from error


def _check_indices(batch: pa.RecordBatch) -> None:
    """Raise where a value is not among those that its column holds; pyarrow may read on from anywhere."""
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            ends = pc.min_max(column.indices).as_py()
            if ends["min"] is not None and not 0 <= ends["min"] <= ends["max"] < len(column.dictionary):
                raise _damaged()


def _batch_rows(group: pq.RowGroupMetaData) -> int:
    """So many rows that a batch has about four megabytes."""
    each = max(1, group.total_byte_size // max(1, group.num_rows))
    return int(min(_MAX_BATCH_ROWS, max(1, _BATCH_BYTES // each)))


def _rows_of(batch: _Batch, before: int, roles: Roles, limits: Limits) -> Iterator[Row | Issue]:
    for at in range(batch.num_rows):
        number = before + at + 1
        try:
            record = {role: _value(column[at]) for role, column in batch.columns.items()}
            if batch.matrix is None:
                yield row_of(roles.kind, number, record, limits)
            else:
                label, split = clean_label(record.get("label")), clean_split(record.get("split"))
                yield Row(number, finite(batch.matrix[at], batch.names), label, split)
        except BadRow as error:
            yield Issue(number, str(error))


def _value(scalar: Any) -> object:  # noqa: ANN401  pyarrow has no types
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        raise BadRow(f"is not UTF-8: byte 0x{error.object[error.start]:02X}") from error
    except (ValueError, OverflowError) as error:
        raise BadRow("holds a value that can't be read") from error


def _matrix(columns: list[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Columns of numbers side by side; what is missing becomes NaN, which is told as an issue."""
    made = [
        np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
        for column in columns
    ]
    return np.stack(made, axis=1)
