"""What an archive holds, told by the names of its files."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from workers.train.datasets.cleaning import SPLIT_NAMES
from workers.train.datasets.facts import BadSource, Limits, Split
from workers.train.datasets.members import Archive, Member, is_ignored
from workers.train.datasets.pictures import OTHER_SUFFIXES, SUFFIXES

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})
#: Files that tables could be, were they not inside an archive.
PACKED_SUFFIXES = frozenset({".parquet", ".npz", ".zip", ".tar", ".gz", ".bz2", ".xz", ".tgz", ".7z", ".rar"})
TEXT_SUFFIXES = frozenset({".txt", ".text"})
#: Folders of rows that nobody has labelled.
_UNLABELLED = frozenset({"unlabelled", "unlabeled", "unsup"})


class Survey:
    """The files of an archive, counted by what they are and where."""

    def __init__(self) -> None:
        self.pictures: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()
        self.tables: list[str] = []
        self.packed: list[str] = []
        self.num_files = 0
        #: The first file that must not be read, and why.
        self.problem: tuple[str, str] | None = None

    def count(self, member: Member, limits: Limits) -> None:
        """One more file.

        Raises:
            BadSource: there are too many files or folders.
        """
        self.num_files += 1
        if self.num_files > limits.max_files:
            raise BadSource(f"The archive holds more than {limits.max_files:,} files.")
        if is_ignored(member.name):
            return
        if member.problem is not None:
            self.problem = self.problem or (member.name, member.problem)
            return
        suffix, folder = suffix_of(member.name), folder_of(member.name)
        if is_picture(member.name):
            self.pictures[folder] += 1
        elif suffix in TEXT_SUFFIXES:
            self.texts[folder] += 1
        elif suffix in TABLE_SUFFIXES:
            self.tables.append(member.name)
        elif suffix in PACKED_SUFFIXES:
            self.packed.append(member.name)
        if len(self.pictures) + len(self.texts) + len(self.tables) + len(self.packed) > limits.max_folders:
            raise BadSource(f"The archive holds more than {limits.max_folders:,} folders and tables.")


def survey(archive: Archive, limits: Limits) -> Survey:
    """Go through the names of an archive."""
    found = Survey()
    for member in archive.members():
        found.count(member, limits)
    return found


def suffix_of(name: str) -> str:
    """The end of a file's name, in lower case."""
    stem, dot, end = name.rpartition("/")[2].rpartition(".")
    return f".{end.lower()}" if dot and stem else ""


def folder_of(name: str) -> str:
    """The folder that a file is in, "" for the outermost."""
    return name.rpartition("/")[0]


def is_picture(name: str) -> bool:
    """Whether a file says it is a picture, be it one that can't be read."""
    return suffix_of(name) in SUFFIXES or suffix_of(name) in OTHER_SUFFIXES


class Place(NamedTuple):
    """What the folder of a file says about it."""

    label: str | None
    split: Split | None


class Folders:
    """What each folder stands for: a class, a split, both, or nothing.

    Folders that all files are in are passed over, as long as each file is left in one. Then come ``train``,
    ``test`` and their kin where nothing else is on that level, then the classes.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        paths = {folder: tuple(part for part in folder.split("/") if part) for folder in folders}
        skipped = _num_common(list(paths.values()))
        rest = {folder: path[skipped:] for folder, path in paths.items()}
        firsts = {path[0].lower() if path else "" for path in rest.values()}
        self._has_splits = len(firsts) > 1 and firsts <= SPLIT_NAMES.keys()
        self._places = {folder: self._place(path) for folder, path in rest.items()}
        self.classes = {place.label for place in self._places.values() if place.label is not None}

    def place(self, name: str) -> Place:
        """What the folder of a file says; nothing where the file is not one to be read."""
        return self._places.get(folder_of(name), Place(None, None))

    def _place(self, path: tuple[str, ...]) -> Place:
        split = SPLIT_NAMES[path[0].lower()] if self._has_splits else None
        classes = path[1:] if self._has_splits else path
        label = classes[0] if classes and classes[0].lower() not in _UNLABELLED else None
        return Place(label, split)


def _num_common(paths: list[tuple[str, ...]]) -> int:
    """How many folders all paths begin with, less one where that would leave a path nothing."""
    if not paths:
        return 0
    shortest = min(len(path) for path in paths)
    for depth in range(shortest):
        if depth == shortest - 1 or len({path[depth] for path in paths}) > 1:
            return depth
    return 0
