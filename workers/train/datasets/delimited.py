"""Tables of comma- or tab-separated values, read line by line."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

from workers.train.datasets.cleaning import clean_label, clean_numbers, clean_split, is_number, shown
from workers.train.datasets.columns import Roles, find_roles
from workers.train.datasets.facts import BadRow, BadSource, Issue, Limits, Reading, Row
from workers.train.datasets.records import row_of
from workers.train.datasets.streams import Read, lines

#: Rows by which columns are told to be of numbers.
_PEEKED = 50
_DELIMITERS = ",;\t|"
#: A row's cells by number, or why there are none.
Cells = list[str] | str


def read_delimited(read: Read, delimiter: str | None, limits: Limits) -> Reading:
    """The rows of a table, numbered from 1 after the header; ``delimiter`` None tells it by the first line.

    Raises:
        BadSource: nothing in it, or no columns that fit.
    """
    names, rows = table(read, delimiter, limits)
    first = [cells for _, cells in zip(range(_PEEKED), rows, strict=False)]
    numeric = _numeric(names, [cells for cells in first if isinstance(cells, list)])
    if names and all(is_number(name) for name in names):
        # There is no header: what is there instead is the first row.
        first.insert(0, names)
        names = [f"column {at + 1}" for at in range(len(names))]
        numeric = set(range(len(names)))
    roles = find_roles(names, numeric=numeric)
    numbered = enumerate(chain(first, rows), 1)
    return Reading(roles.kind, _rows(numbered, names, roles, limits), width=len(roles.numbers))


def table(read: Read, delimiter: str | None, limits: Limits) -> tuple[list[str], Iterator[Cells]]:
    """The header of a table, and its rows.

    Raises:
        BadSource: it has no header that can be read.
    """
    feed = _Feed(lines(read, limits.max_row_bytes), limits.max_row_bytes)
    try:
        first = next(line for line in feed if line.strip())
    except StopIteration:
        raise BadSource("The table is empty.") from None
    except BadRow as error:
        raise BadSource(f"The first line {error}: it should name the columns.") from error
    sign = delimiter or max(_DELIMITERS, key=first.count)
    try:
        with _field_limit(limits.max_field_bytes):
            header = [name.strip() for name in next(csv.reader([first], delimiter=sign), [])]
    except csv.Error as error:
        raise BadSource(f"The first line can't be read: {_reason(error, limits)}.") from error
    if "\0" in first:
        raise BadSource("The first line holds NUL bytes: the file is no table of text.")
    if len(header) > limits.max_columns:
        raise BadSource(f"The table has {len(header):,} columns; at most {limits.max_columns:,} are allowed.")
    escaped = next((name for name in header if not _is_unicode(name)), None)
    if escaped is not None:
        raise BadSource(f"The first line is not UTF-8, in column {shown(escaped)}: save the table as UTF-8.")
    body = _tab_separated(feed) if sign == "\t" else _comma_separated(feed, sign, limits)
    return header, body


class _Feed:
    """Lines as text, which may fail one by one and go on."""

    def __init__(self, source: Iterator[tuple[bytes, bool]], most: int) -> None:
        self._source = source
        self._most = most
        self.taken_bytes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, is_cut = next(self._source)
        self.taken_bytes += len(line)
        if is_cut or self.taken_bytes > self._most:
            raise BadRow(f"is longer than {self._most:,} bytes")
        # Bytes that are no UTF-8 come through as what `cleaning` tells of.
        return line.decode("utf-8", "surrogateescape") + "\n"


def _comma_separated(feed: _Feed, sign: str, limits: Limits) -> Iterator[Cells]:
    reader = csv.reader(feed, delimiter=sign)
    while True:
        feed.taken_bytes = 0
        try:
            with _field_limit(limits.max_field_bytes):
                cells = next(reader)
        except StopIteration:
            return
        except BadRow as error:
            yield f"{error} (is a quote not closed?)" if feed.taken_bytes else str(error)
        except csv.Error as error:
            yield _reason(error, limits)
        else:
            if cells:
                yield cells


def _reason(error: csv.Error, limits: Limits) -> str:
    if "field larger" in str(error):
        return f"has a field longer than {limits.max_field_bytes:,} bytes (is a quote not closed?)"
    return "has a carriage return that ends no line"


@contextmanager
def _field_limit(most: int) -> Iterator[None]:
    """The limit of the csv module is one for the whole process, so that it is put back at once."""
    before = csv.field_size_limit(most)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _tab_separated(feed: _Feed) -> Iterator[Cells]:
    """A line is a row, and a quote opens nothing unless it closes the same cell: texts are full of them."""
    while True:
        feed.taken_bytes = 0
        try:
            line = next(feed)
        except StopIteration:
            return
        except BadRow as error:
            yield str(error)
        else:
            if line.strip("\n"):
                yield [_unquoted(cell) for cell in line.rstrip("\n").split("\t")]


def _unquoted(cell: str) -> str:
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _numeric(names: Sequence[str], rows: Sequence[list[str]]) -> set[int]:
    """The columns of which at least half of what stands there are numbers."""
    found = set()
    for at in range(len(names)):
        cells = [row[at] for row in rows if at < len(row) and row[at].strip()]
        if cells and sum(map(is_number, cells)) * 2 >= len(cells):
            found.add(at)
    return found


def _rows(
    numbered: Iterator[tuple[int, Cells]], names: list[str], roles: Roles, limits: Limits
) -> Iterator[Row | Issue]:
    features = [names[at] for at in roles.numbers]
    for number, cells in numbered:
        if isinstance(cells, str):
            yield Issue(number, cells)
        elif len(cells) != len(names):
            yield Issue(number, f"has {len(cells)} fields where the header has {len(names)}")
        else:
            record = {role: cells[at] for role, at in roles.places.items()}
            if roles.kind == "numbers":
                yield _numbers(number, [cells[at] for at in roles.numbers], features, record)
            else:
                yield row_of(roles.kind, number, record, limits)


def _numbers(number: int, cells: list[str], names: list[str], record: dict[str, str]) -> Row | Issue:
    try:
        return Row(
            number,
            clean_numbers(cells, names),
            clean_label(record.get("label")),
            clean_split(record.get("split")),
        )
    except BadRow as error:
        return Issue(number, str(error))
