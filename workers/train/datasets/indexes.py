"""The index of an archive of pictures: a table that says what each file shows."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from workers.train.datasets.cleaning import clean_label, clean_split, shown
from workers.train.datasets.columns import find_index
from workers.train.datasets.delimited import table
from workers.train.datasets.digests import DigestMap
from workers.train.datasets.facts import SPLITS, BadRow, BadSource, Issue, Limits, Split
from workers.train.datasets.jsonlines import objects
from workers.train.datasets.layouts import folder_of, suffix_of

_PEEKED = 50
_USED = 1
#: An entry in one number: whether it was used, the split in two bits, the label in 24, the rest is the row.
_SPLIT_AT, _LABEL_AT, _ROW_AT = 1, 3, 27
_LABEL_MASK = (1 << (_ROW_AT - _LABEL_AT)) - 1
#: A row of an index: its number and its cells by what they are for, or what is wrong with it.
_Found = tuple[int, dict[str, object] | str]


class Entry(NamedTuple):
    """What the index says of a file."""

    row: int
    label: str | None
    split: Split | None


class Index:
    """Entries by the names of their files, in about 30 bytes each."""

    def __init__(self, name: str, path: Path, limits: Limits) -> None:
        self._folder = folder_of(name)
        self._name = name
        self._path = path
        self._limits = limits
        self._entries = DigestMap()
        self._labels: dict[str | None, int] = {}
        self._names: list[str | None] = []

    def load(self) -> Iterator[Issue]:
        """Read all of it; tells of the rows that can't be used.

        Raises:
            BadSource: it has too many classes or rows.
        """
        for number, found in self._rows():
            if number > self._limits.max_rows:
                raise BadSource(f"The index has more than {self._limits.max_rows:,} rows.")
            try:
                if isinstance(found, str):
                    raise BadRow(found)  # noqa: TRY301  told as those below are
                self._add(number, found)
            except BadRow as error:
                yield Issue(number, str(error))

    def find(self, name: str) -> Entry | None:
        """The entry of a file, which is used up by that.

        The index may name files from the top of the archive, from where it lies itself, or by any end of
        their paths.
        """
        parts = name.split("/")
        for at in range(len(parts)):
            tail = "/".join(parts[at:])
            value = self._entries.find(tail)
            if value is not None and not value & _USED:
                self._entries.replace(tail, value | _USED)
                split = value >> _SPLIT_AT & 0b11
                return Entry(
                    value >> _ROW_AT,
                    self._names[value >> _LABEL_AT & _LABEL_MASK],
                    SPLITS[split - 1] if split else None,
                )
        return None

    def unused(self) -> Iterator[Issue]:
        """The rows that name files which are not there."""
        for number, found in self._rows():
            if isinstance(found, str):
                continue
            name = _file_name(found.get("file"))
            value = self._entries.find(name) if name else None
            if value is not None and not value & _USED and value >> _ROW_AT == number:
                yield Issue(number, f"{shown(name)} is not in the archive")

    def _add(self, number: int, record: dict[str, object]) -> None:
        name = _file_name(record.get("file"))
        if not name:
            raise BadRow("names no file")
        label, split = clean_label(record.get("label")), clean_split(record.get("split"))
        code = self._labels.setdefault(label, len(self._labels))
        if code == len(self._names):
            self._names.append(label)
        if code > self._limits.max_classes:
            raise BadSource(f"The index has more than {self._limits.max_classes:,} classes.")
        split_code = SPLITS.index(split) + 1 if split else 0
        value = number << _ROW_AT | code << _LABEL_AT | split_code << _SPLIT_AT
        if not self._entries.add(name, value):
            raise BadRow(f"{shown(name)} is named twice")

    def _rows(self) -> Iterator[_Found]:
        with self._path.open("rb") as file:
            if suffix_of(self._name) in (".csv", ".tsv"):
                delimiter = "\t" if suffix_of(self._name) == ".tsv" else None
                yield from _of_table(*table(file.read, delimiter, self._limits))
            else:
                yield from _of_objects(objects(file.read, self._limits))


def is_index(name: str, path: Path, limits: Limits) -> bool:
    """Whether a table names files."""
    with path.open("rb") as file:
        if suffix_of(name) in (".csv", ".tsv"):
            try:
                names, _ = table(file.read, "\t" if suffix_of(name) == ".tsv" else None, limits)
            except BadSource:
                return False
            return find_index(names) is not None
        found = zip(range(_PEEKED), objects(file.read, limits), strict=False)
        return any(isinstance(one, dict) and find_index(list(one)) is not None for _, (_, one) in found)


def _of_table(names: list[str], rows: Iterator[list[str] | str]) -> Iterator[_Found]:
    places = find_index(names) or {}
    for number, cells in enumerate(rows, 1):
        if isinstance(cells, str):
            yield number, cells
        elif len(cells) != len(names):
            yield number, f"has {len(cells)} fields where the header has {len(names)}"
        else:
            yield number, {role: cells[at] for role, at in places.items()}


def _of_objects(found: Iterator[tuple[int, dict[str, object] | str]]) -> Iterator[_Found]:
    for number, one in found:
        if isinstance(one, str):
            yield number, one
        else:
            names = list(one)
            places = find_index(names) or {}
            yield number, {role: one[names[at]] for role, at in places.items()}


def _file_name(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return "/".join(part for part in value.strip().replace("\\", "/").split("/") if part not in ("", "."))
