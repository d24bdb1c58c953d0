"""What is known about a data set: where it comes from, how much of it is allowed, what was found in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

Kind = Literal["images", "texts", "tagged", "pairs", "numbers"]
Modality = Literal["IMAGE", "TEXT"]
Split = Literal["train", "test"]

#: What the files of a prepared data set look like; raised when older ones can't be read any more.
FORMAT_VERSION = 1
SPLITS: tuple[Split, Split] = ("train", "test")
MODALITIES: dict[Kind, Modality | None] = {
    "images": "IMAGE", "texts": "TEXT", "tagged": "TEXT", "pairs": "TEXT", "numbers": None,
}  # fmt: skip


class FileSource(msgspec.Struct, frozen=True, kw_only=True):
    """A file as somebody sent it: ``name`` and ``media_type`` are what they said, and may be wrong."""

    path: Path
    name: str
    media_type: str = "application/octet-stream"


class SampleSource(msgspec.Struct, frozen=True, kw_only=True):
    """One of the sets that may be installed, by name."""

    name: str


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a data set is looked at."""

    max_rows: int = 5_000_000
    #: Files of an archive, and folders in it.
    max_files: int = 1_000_000
    max_folders: int = 20_000
    #: All that a source unpacks to, whatever its size.
    max_unpacked_bytes: int = 8 << 30
    #: A source may unpack to so many times its size, and always to ``free_unpacked_bytes``.
    max_ratio: int = 100
    free_unpacked_bytes: int = 256 << 20
    #: A text, or a cell of a table.
    max_field_bytes: int = 1 << 20
    #: A line of a table or of JSON, or a row that runs over several.
    max_row_bytes: int = 2 << 20
    max_columns: int = 20_000
    #: The file of one picture, and its width times its height.
    max_picture_bytes: int = 64 << 20
    max_pixels: int = 40_000_000
    #: The longer side of a picture as it is kept; larger ones are scaled down.
    kept_side: int = 512
    max_classes: int = 4096
    #: All classes' names together: they travel in one message with the issues.
    max_class_bytes: int = 64 << 10
    #: Rows and bytes up to which a data set is also laid out for embedding.
    max_inputs: int = 100_000
    max_inputs_bytes: int = 1 << 30
    #: What is held in memory before it is written.
    row_group_bytes: int = 8 << 20

    def allowance_bytes(self, packed_bytes: int) -> int:
        """What a source of ``packed_bytes`` may unpack to."""
        return min(self.max_unpacked_bytes, max(self.free_unpacked_bytes, self.max_ratio * packed_bytes))


class Issue(msgspec.Struct, frozen=True):
    """What is wrong with a row, counted from 1 as its file counts; None: with the whole of it."""

    row: int | None
    message: str


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at every row has shown. Rows with an issue are left out of what is prepared."""

    is_usable: bool
    kind: Kind | None = None
    modality: Modality | None = None
    #: Digest of the rows' content in their order, however they came packed.
    sha256: str = ""
    #: Good rows.
    num_rows: int = 0
    #: By number; of tagged sentences, the tags.
    classes: list[str] = []
    #: Good rows of each class; of tagged sentences, the tokens of each tag.
    class_counts: list[int] = []
    num_unlabelled: int = 0
    splits: dict[str, int] = {}
    #: The first ones; ``num_issues`` counts all.
    issues: list[Issue] = []
    num_issues: int = 0
    #: Height, width and channels where all pictures have the same; how many numbers a row has.
    shape: list[int] | None = None
    #: Characters of all texts, or tokens of tagged sentences.
    num_tokens: int | None = None
    #: The texts are pieces of one text, which they give again when they are put together as they are.
    is_running_text: bool = False
    version: int = FORMAT_VERSION


class BadSource(Exception):
    """The whole of a source can't be used; the message says why, for the person who sent it."""


class BadRow(Exception):
    """One row can't be used; the message says why."""


class Picture(NamedTuple):
    """A picture as it is kept. ``digest`` is taken of what it shows."""

    data: bytes
    width: int
    height: int
    channels: int
    digest: bytes


class Tagged(NamedTuple):
    """A sentence, a tag for each of its tokens."""

    tokens: list[str]
    tags: list[str]


class Pair(NamedTuple):
    """A text and what it turns into."""

    source: str
    target: str


Content = Picture | str | Tagged | Pair | npt.NDArray[np.float32]


class Row(NamedTuple):
    """A good row; ``number`` is the one that an issue would name."""

    number: int
    content: Content
    label: str | None = None
    split: Split | None = None


class Reading(NamedTuple):
    """A source that has been opened: what its rows are, and the rows, each good or an issue.

    The rows may raise `BadSource` at any point. ``width`` is how many numbers a row has.
    """

    kind: Kind
    rows: Iterator[Row | Issue]
    width: int = 0
    is_running_text: bool = False
