"""A data set that is ready for training, as tensors and lists.

Legend: N rows, C channels, H height, W width, F numbers.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.nets.contracts import ImageInput
from workers.train.datasets.facts import FORMAT_VERSION, SPLITS, Findings, Kind, Split
from workers.train.datasets.pictures import FORMATS
from workers.train.datasets.validation import DATA_FILE, FACTS_FILE

DEFAULT_LIMIT_BYTES = 4 << 30
#: What a string of Python takes beside its text.
_STRING_BYTES = 80
_BATCH_ROWS = 1024


class PreparedError(Exception):
    """The root of what can be wrong with a prepared data set."""


class PreparedDamaged(PreparedError):
    """Its files are not there, or not what `validate` wrote."""


class WrongKind(PreparedError):
    """Something was asked for that a data set of this kind doesn't have."""


class TooLarge(PreparedError):
    """It would take more memory than is allowed."""


def open_prepared(folder: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> "Prepared":
    """What `validate` wrote into a folder. Rows are read when they are asked for.

    Raises:
        PreparedDamaged: the files are not there, or of another version.
    """
    try:
        facts = msgspec.json.decode((folder / FACTS_FILE).read_bytes(), type=Findings)
        metadata = pq.read_metadata(folder / DATA_FILE)
    except (OSError, msgspec.MsgspecError, pa.ArrowException) as error:
        raise PreparedDamaged(f"{folder} holds no prepared data set: {error}") from error
    if facts.version != FORMAT_VERSION or metadata.num_rows != facts.num_rows:
        raise PreparedDamaged(f"{folder} was prepared by another version, or its files don't belong together")
    return Prepared(folder, facts, limit_bytes)


class Prepared:
    """A prepared data set. Rows come in the order of their source; ``split`` is "train" or "test".

    Every method raises `WrongKind` where the data set is of another kind, and `TooLarge` before anything is
    read that would not fit in ``limit_bytes``.
    """

    def __init__(self, folder: Path, facts: Findings, limit_bytes: int) -> None:
        self.facts = facts
        self._folder = folder
        self._limit_bytes = limit_bytes

    def images(self, split: Split, *, side: int, channels: Literal[1, 3]) -> Tensor:
        """Pictures resized as `ImageInput` does it for serving: (N, C, H, W) uint8.

        They are kept in the folder, so that whoever asks for the same ones next has them at once.
        """
        self._expect("images")
        self._check_size(self.facts.num_rows * channels * side**2, f"pictures of {side} x {side}")
        cache = self._folder / f"pixels-{side}-{channels}.safetensors"
        try:
            return load_file(cache)[split]
        except (OSError, SafetensorError, KeyError):
            pass  # not there yet, or not whole
        made = self._resized(ImageInput(side=side, channels=channels))
        fresh = cache.with_suffix(f".{os.getpid()}")
        save_file(made, fresh)
        fresh.replace(cache)
        return made[split]

    def labels(self, split: Split) -> Tensor:
        """The numbers of the rows' classes in ``facts.classes`` (N,) int64; -1 where a row has none."""
        parts = [column.to_numpy() for (column,) in self._columns(split, "label")]
        return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64))

    def texts(self, split: Split) -> list[str]:
        """Texts. Pieces of a running text give it again by ``"".join``."""
        self._expect("texts")
        self._check_texts("text")
        return [text for (column,) in self._columns(split, "text") for text in column.to_pylist()]

    def tagged(self, split: Split) -> list[tuple[list[str], list[str]]]:
        """Sentences: their tokens and their tags."""
        self._expect("tagged")
        self._check_texts("tokens", "tags")
        return self._side_by_side(split, "tokens", "tags")

    def pairs(self, split: Split) -> list[tuple[str, str]]:
        """Texts and what they turn into."""
        self._expect("pairs")
        self._check_texts("source", "target")
        return self._side_by_side(split, "source", "target")

    def numbers(self, split: Split) -> Tensor:
        """Rows of numbers: (N, F) float32."""
        self._expect("numbers")
        width = (self.facts.shape or [0])[0]
        self._check_size(self.facts.num_rows * width * 4, f"rows of {width} numbers")
        parts = [column.flatten().to_numpy() for (column,) in self._columns(split, "values")]
        rows = np.concatenate([np.empty(0, np.float32), *parts])
        return torch.from_numpy(rows.reshape(-1, width))

    def _resized(self, contract: ImageInput) -> dict[str, Tensor]:
        shape = (contract.channels, contract.side, contract.side)
        made: dict[str, Tensor] = {
            split: torch.empty((self.facts.splits.get(split, 0), *shape), dtype=torch.uint8)
            for split in SPLITS
        }
        for split in SPLITS:
            first = 0
            for (column,) in self._columns(split, "image"):
                for at in range(0, len(column), _BATCH_ROWS):
                    images = [_opened(data) for data in column[at : at + _BATCH_ROWS].to_pylist()]
                    made[split][first : first + len(images)] = contract.pixels(images)
                    first += len(images)
        return made

    def _side_by_side(self, split: Split, one: str, other: str) -> list[tuple[Any, Any]]:
        return [
            row
            for left, right in self._columns(split, one, other)
            for row in zip(left.to_pylist(), right.to_pylist(), strict=True)
        ]

    def _columns(self, split: Split, *names: str) -> Iterator[tuple[Any, ...]]:
        """The named columns of a split, group by group."""
        with pq.ParquetFile(self._folder / DATA_FILE, pre_buffer=False) as file:
            for group in range(file.metadata.num_row_groups):
                table = file.read_row_group(group, columns=[*names, "is_test"], use_threads=False)
                is_test = table.column("is_test")
                table = table.filter(is_test if split == "test" else pc.invert(is_test))
                if table.num_rows:
                    yield tuple(table.column(name).combine_chunks() for name in names)

    def _expect(self, kind: Kind) -> None:
        if self.facts.kind != kind:
            raise WrongKind(f"the data set holds {self.facts.kind}, not {kind}")

    def _check_texts(self, *columns: str) -> None:
        num_bytes = (self.facts.num_tokens or 0) * 2 + self.facts.num_rows * _STRING_BYTES * len(columns)
        if self.facts.kind == "tagged":
            num_bytes = (self.facts.num_tokens or 0) * _STRING_BYTES * len(columns)
        self._check_size(num_bytes, f"{self.facts.num_rows:,} texts")

    def _check_size(self, num_bytes: int, what: str) -> None:
        if num_bytes > self._limit_bytes:
            raise TooLarge(
                f"{what} take {num_bytes / 2**30:.1f} GiB in memory, over the limit of "
                f"{self._limit_bytes / 2**30:.1f} GiB: use fewer rows or smaller ones"
            )


def _opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    image.load()
    return image
