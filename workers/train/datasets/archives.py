"""Rows out of ZIP and tar archives: pictures or texts in folders, pictures with an index, tables."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from workers.train.datasets import layouts
from workers.train.datasets.cleaning import SPLIT_NAMES, clean_label, clean_text, shown
from workers.train.datasets.delimited import read_delimited
from workers.train.datasets.digests import DigestMap
from workers.train.datasets.facts import BadRow, BadSource, Issue, Limits, Reading, Row, Split
from workers.train.datasets.indexes import Index, is_index
from workers.train.datasets.jsonlines import read_json_lines
from workers.train.datasets.layouts import Folders, Survey, suffix_of
from workers.train.datasets.members import Archive, Member, is_ignored
from workers.train.datasets.pictures import OTHER_SUFFIXES, SUFFIXES, decode
from workers.train.datasets.plain import characters, numbered, pieces_of
from workers.train.datasets.streams import file_reader


class Packed(NamedTuple):
    """An archive, a folder to unpack its tables into, and what is allowed."""

    archive: Archive
    work: Path
    limits: Limits


def read_archive(packed: Packed) -> Reading:
    """Find out what an archive holds and read that.

    Raises:
        BadSource: nothing in it can be used, or it is damaged, or unpacks to too much.
    """
    found = layouts.survey(packed.archive, packed.limits)
    if found.pictures:
        tables = _unpack_tables(packed, found)
        indexes = [name for name in tables if is_index(name, tables[name], packed.limits)]
        if indexes:
            loaded = [Index(name, tables[name], packed.limits) for name in indexes]
            return Reading("images", _indexed(packed, loaded))
        return Reading("images", _pictures(packed, Folders(found.pictures), tables))
    if found.tables:
        return _tables(packed, _unpack_tables(packed, found))
    if found.texts:
        folders = Folders(found.texts)
        if len(folders.classes) > 1:
            return Reading("texts", _documents(packed, folders))
        return Reading("texts", _running(packed, folders), is_running_text=True)
    if found.problem is not None:
        raise BadSource(f"{shown(found.problem[0])} {found.problem[1]}.")
    if found.packed:
        raise BadSource(f"{shown(found.packed[0])} is inside of an archive: send it by itself.")
    raise BadSource("The archive holds no pictures, texts or tables.")


def _unpack_tables(packed: Packed, found: Survey) -> dict[str, Path]:
    """The tables of an archive as files of our own, by the names they had."""
    if not found.tables:
        return {}
    wanted = set(found.tables)
    made: dict[str, Path] = {}
    for member in packed.archive.members():
        if member.name not in wanted or member.name in made:
            continue
        if member.problem is not None:
            raise BadSource(f"{shown(member.name)} {member.problem}.")
        path = packed.work / f"table-{len(made)}"
        try:
            with path.open("xb") as file:
                for piece in member.chunks():
                    file.write(piece)
        except BadRow as error:
            raise BadSource(f"{shown(member.name)} {error}.") from error
        made[member.name] = path
    return made


class _Chosen:
    """The members of one sort, numbered from 1, those that come twice told of."""

    def __init__(self, packed: Packed, is_wanted: Callable[[str], bool]) -> None:
        self._packed = packed
        self._is_wanted = is_wanted
        self._seen = DigestMap()

    def __iter__(self) -> Iterator[tuple[int, Member, str | None]]:
        number = 0
        for member in self._packed.archive.members():
            if is_ignored(member.name) or not self._is_wanted(member.name):
                continue
            number += 1
            problem = member.problem
            if not self._seen.add(member.name):
                problem = problem or "is in the archive twice"
            yield number, member, problem


def _pictures(packed: Packed, folders: Folders, others: Iterable[str]) -> Iterator[Row | Issue]:
    for name in others:
        yield Issue(
            None, f"{shown(name)} names no pictures: looked for a column file, filename, path or image"
        )
    for number, member, problem in _Chosen(packed, layouts.is_picture):
        place = folders.place(member.name)
        yield _picture(number, member, problem, (place.label, place.split), packed.limits)


def _picture(
    number: int, member: Member, problem: str | None, place: tuple[str | None, Split | None], limits: Limits
) -> Row | Issue:
    suffix = suffix_of(member.name)
    try:
        if problem is None and suffix in OTHER_SUFFIXES:
            problem = f"is of a format that isn't read: use {', '.join(sorted(SUFFIXES))}"
        if problem is not None:
            raise BadRow(problem)  # noqa: TRY301  told as those below are
        label, split = place
        picture = decode(member.read(limits.max_picture_bytes), limits)
        return Row(number, picture, clean_label(label), split)
    except BadRow as error:
        return Issue(number, f"{shown(member.name)} {error}")


def _indexed(packed: Packed, indexes: list[Index]) -> Iterator[Row | Issue]:
    for index in indexes:
        yield from index.load()
    for number, member, problem in _Chosen(packed, layouts.is_picture):
        entry = next((found for index in indexes if (found := index.find(member.name)) is not None), None)
        if entry is None:
            yield Issue(number, f"{shown(member.name)} is not in the index")
        else:
            yield _picture(entry.row, member, problem, (entry.label, entry.split), packed.limits)
    for index in indexes:
        yield from index.unused()


def _is_text(name: str) -> bool:
    return suffix_of(name) in layouts.TEXT_SUFFIXES


def _documents(packed: Packed, folders: Folders) -> Iterator[Row | Issue]:
    most = packed.limits.max_field_bytes
    for number, member, problem in _Chosen(packed, _is_text):
        place = folders.place(member.name)
        try:
            if problem is not None:
                raise BadRow(problem)  # noqa: TRY301  told as those below are
            text = member.read(most).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
            yield Row(number, clean_text(text, most), clean_label(place.label), place.split)
        except BadRow as error:
            yield Issue(number, f"{shown(member.name)} {error}")


def _running(packed: Packed, folders: Folders) -> Iterator[Row | Issue]:
    """All files one after the other, as one text."""
    before = 0
    for _, member, problem in _Chosen(packed, _is_text):
        if problem is not None:
            raise BadSource(f"{shown(member.name)} {problem}.")
        split = folders.place(member.name).split
        try:
            for row in numbered(pieces_of(characters(member.open())), split):
                before += 1
                yield row._replace(number=before) if isinstance(row, Row) else Issue(before, row.message)
        except BadRow as error:
            raise BadSource(f"{shown(member.name)} {error}.") from error


def _tables(packed: Packed, tables: dict[str, Path]) -> Reading:
    """The rows of all tables; those with train or test in their names are of that split."""
    readings = [_table(name, path, packed.limits) for name, path in tables.items()]
    first = readings[0]
    if any(reading.kind != first.kind or reading.width != first.width for reading in readings):
        raise BadSource("The tables of the archive hold different things: send them one by one.")
    if len(readings) == 1:
        return first
    return Reading(first.kind, chain.from_iterable(map(_named, readings, tables)), first.width)


def _table(name: str, path: Path, limits: Limits) -> Reading:
    read = file_reader(path)
    if suffix_of(name) in (".csv", ".tsv"):
        return read_delimited(read, "\t" if suffix_of(name) == ".tsv" else None, limits)
    return read_json_lines(read, limits)


def _named(reading: Reading, name: str) -> Iterator[Row | Issue]:
    """The rows of one of several tables: its name says their split, and stands in their issues."""
    words = re.findall("[a-z]+", name.rpartition("/")[2].lower())
    split = next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)
    for row in reading.rows:
        if isinstance(row, Row):
            yield row._replace(split=row.split or split)
        else:
            yield Issue(row.row, f"{shown(name)}: {row.message}")
