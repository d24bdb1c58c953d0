"""Rows into files, in two passes: as they come, and then with what only the last of them has told.

The first pass writes the content beside classes by first appearance; the second one numbers the classes in
their order, says which rows are for tests, and lays out the preview and the inputs for embedding. Neither
holds more than a group of rows.
"""

import hashlib
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from workers.train.datasets.facts import BadSource, Kind, Limits, Pair, Picture, Reading, Row, Tagged
from workers.train.datasets.kinds import Form, form_of
from workers.train.datasets.splitting import CODES, Splits, Splitter, draw_of
from workers.train.datasets.streams import too_large

_NO_CLASS = -1
#: Kinds of which a row may have a label; it is odd if it has none.
_LABELLED_KINDS = ("images", "texts", "numbers")
_MAX_GROUP_ROWS = 16_384
_MARKS = (("code", pa.int32()), ("draw", pa.uint32()), ("given", pa.int8()), ("size", pa.int32()))
_LAST = (("label", pa.int32()), ("is_test", pa.bool_()))
_SEPARATOR = b"\x1f"


class Gathered(NamedTuple):
    """What the first pass knows at its end; classes are in the order of their first rows."""

    kind: Kind
    width: int
    sha256: str
    num_rows: int
    num_unlabelled: int
    classes: list[str]
    class_counts: list[int]
    #: Tokens of each tag, where rows are tagged sentences.
    tag_counts: Counter[str]
    shape: list[int] | None
    num_tokens: int | None
    splits: Splits


class Gathering:
    """The first pass. To be used as a context, which closes its file."""

    def __init__(self, reading: Reading, path: Path, limits: Limits) -> None:
        self._reading = reading
        self._limits = limits
        self._form = form_of(reading.kind, reading.width)
        self._writer = GroupWriter(path, self._form, _MARKS, limits.row_group_bytes)
        self._splitter = Splitter(is_running_text=reading.is_running_text)
        self._sha256 = hashlib.sha256(reading.kind.encode())
        self._codes: dict[str, int] = {}
        self._counts: list[int] = []
        self._tag_counts: Counter[str] = Counter()
        self._class_bytes = 0
        self._stored_bytes = 0
        self._shapes: set[tuple[int, ...]] = set()
        self._num_tokens = 0
        self.num_rows = 0
        self.num_unlabelled = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, row: Row) -> None:
        """A good row.

        Raises:
            BadSource: there are too many rows, bytes or classes.
        """
        values, num_bytes, digest = self._form.take(row.content)
        self.num_rows += 1
        self._stored_bytes += num_bytes
        if self.num_rows > self._limits.max_rows:
            raise BadSource(f"It has more than {self._limits.max_rows:,} rows.")
        if self._stored_bytes > self._limits.max_unpacked_bytes:
            raise too_large(self._limits.max_unpacked_bytes)
        code = self._code(row.label)
        given = CODES[row.split]
        size = self._measure(row.content)
        self._splitter.add(code, draw_of(digest), given, size)
        label = b"" if row.label is None else row.label.encode()
        self._sha256.update(struct.pack("<32sbbI", digest, given, code >= 0, len(label)) + label)
        self._writer.add(values, (code, draw_of(digest), given, size), num_bytes)

    def finish(self) -> Gathered:
        """Write what is held; what is known now."""
        self._writer.close()
        kind = self._reading.kind
        shape = [self._reading.width] if kind == "numbers" else None
        if len(self._shapes) == 1:
            shape = list(next(iter(self._shapes)))
        return Gathered(
            kind=kind,
            width=self._reading.width,
            sha256=self._sha256.hexdigest(),
            num_rows=self.num_rows,
            num_unlabelled=self.num_unlabelled,
            classes=list(self._codes),
            class_counts=self._counts,
            tag_counts=self._tag_counts,
            shape=shape,
            num_tokens=self._num_tokens if kind in ("texts", "tagged", "pairs") else None,
            splits=self._splitter.finish(),
        )

    def _code(self, label: str | None) -> int:
        if label is None:
            self.num_unlabelled += self._reading.kind in _LABELLED_KINDS
            return _NO_CLASS
        code = self._codes.get(label)
        if code is None:
            code = self._codes[label] = len(self._codes)
            self._counts.append(0)
            self._count_class(label, len(self._codes), "classes: is the label column the right one?")
        self._counts[code] += 1
        return code

    def _count_class(self, name: str, count: int, what: str) -> None:
        self._class_bytes += len(name.encode())
        if count > self._limits.max_classes or self._class_bytes > self._limits.max_class_bytes:
            raise BadSource(f"It has too many {what}")

    def _measure(self, content: object) -> int:
        """Count what a row adds to shapes and tokens; its characters, or its tokens."""
        size = 0
        if isinstance(content, Picture) and len(self._shapes) < 2:  # noqa: PLR2004  two differ
            self._shapes.add((content.height, content.width, content.channels))
        elif isinstance(content, str):
            size = len(content)
        elif isinstance(content, Pair):
            size = len(content.source) + len(content.target)
        elif isinstance(content, Tagged):
            size = len(content.tokens)
            for tag in set(content.tags):
                if tag not in self._tag_counts:
                    self._count_class(tag, len(self._tag_counts) + 1, "tags.")
                    self._tag_counts[tag] = 0
            self._tag_counts.update(content.tags)
        self._num_tokens += size
        return size


class GroupWriter:
    """Rows into a Parquet file, by groups of bounded size."""

    def __init__(
        self, path: Path, form: Form, marks: tuple[tuple[str, pa.DataType], ...], group_bytes: int
    ) -> None:
        self._fields = (*form.fields, *marks)
        self._schema = pa.schema(list(self._fields))
        # Statistics would hold whole pictures and texts.
        self._file = pq.ParquetWriter(
            path, self._schema, compression=form.compression, write_statistics=False, use_dictionary=False
        )
        self._group_bytes = group_bytes
        self._columns: list[list[Any]] = [[] for _ in self._fields]
        self._num_bytes = 0

    def add(self, values: tuple[Any, ...], marks: tuple[Any, ...], num_bytes: int) -> None:
        """A row of about ``num_bytes``."""
        for column, value in zip(self._columns, (*values, *marks), strict=True):
            column.append(value)
        self._num_bytes += num_bytes
        if self._num_bytes >= self._group_bytes or len(self._columns[0]) >= _MAX_GROUP_ROWS:
            self._flush()

    def write(self, batch: pa.Table) -> None:
        """A group of rows that is a table already."""
        self._file.write_table(batch.cast(self._schema))

    def close(self) -> None:
        """Write the rest and the footer."""
        if self._file.is_open:
            self._flush()
            self._file.close()

    def _flush(self) -> None:
        if self._columns[0]:
            arrays = [
                pa.array(column, kind) for column, (_, kind) in zip(self._columns, self._fields, strict=True)
            ]
            self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._columns = [[] for _ in self._fields]
        self._num_bytes = 0


class Group(NamedTuple):
    """A group of finished rows: their content, the numbers of their classes, whether they are for tests."""

    content: list[tuple[Any, ...]]
    labels: list[int]
    is_test: list[bool]


def order_classes(names: list[str]) -> list[str]:
    """Classes by their numbers where all are numbers, else by the alphabet."""
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def finish_rows(gathered: Gathered, rough: Path, final: Path, limits: Limits) -> Iterator[Group]:
    """The second pass: writes ``final`` out of ``rough``, and gives each group of rows on its way."""
    form = form_of(gathered.kind, gathered.width)
    ordered = {name: number for number, name in enumerate(order_classes(gathered.classes))}
    numbers = np.array([*(ordered[name] for name in gathered.classes), _NO_CLASS], np.int64)
    writer = GroupWriter(final, form, _LAST, limits.row_group_bytes)
    first = characters = 0
    with pq.ParquetFile(rough, pre_buffer=False) as file:
        for group in range(file.metadata.num_row_groups):
            table = file.read_row_group(group, use_threads=False)
            codes, draws, given, sizes = (
                table.column(name).to_numpy().astype(np.int64) for name, _ in _MARKS
            )
            after = characters + np.cumsum(sizes)
            is_test = gathered.splits.is_test(first, codes, draws, given, after)
            first, characters = first + len(codes), int(after[-1])
            labels = numbers[codes]  # the last one stands for no class
            content = [table.column(name) for name, _ in form.fields]
            writer.write(
                pa.table(
                    [*content, pa.array(labels, pa.int32()), pa.array(is_test)],
                    names=[name for name, _ in (*form.fields, *_LAST)],
                )
            )
            rows = list(zip(*(column.to_pylist() for column in content), strict=True))
            yield Group(rows, labels.tolist(), is_test.tolist())
    writer.close()
