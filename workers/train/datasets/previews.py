"""The first rows, to look at; and all rows as inputs for embedding."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec

from workers.train.datasets.facts import Kind, Limits
from workers.train.datasets.pictures import sheet

#: Pictures of the sheet, rows of a list.
_NUM_PICTURES = 64
_NUM_ROWS = 50
_MAX_CHARACTERS = 200
_MAX_ITEMS = 50
_JPEG_START = b"\xff\xd8"


class Preview:
    """Takes the first rows and writes ``preview.png`` or ``preview.json``."""

    def __init__(self, kind: Kind, classes: list[str]) -> None:
        self._kind = kind
        self._classes = classes
        self._most = _NUM_PICTURES if kind == "images" else _NUM_ROWS
        self._rows: list[tuple[tuple[Any, ...], int, bool]] = []

    def add(self, content: tuple[Any, ...], label: int, is_test: bool) -> None:
        """The next row."""
        if len(self._rows) < self._most:
            self._rows.append((content, label, is_test))

    def write(self, folder: Path) -> None:
        """The preview's file."""
        if self._kind == "images":
            (folder / "preview.png").write_bytes(sheet([content[0] for content, _, _ in self._rows]))
            return
        rows = [
            {
                **_SHOWN[self._kind](content),
                "label": self._classes[label] if label >= 0 else None,
                "split": "test" if is_test else "train",
            }
            for content, label, is_test in self._rows
        ]
        (folder / "preview.json").write_bytes(msgspec.json.encode({"kind": self._kind, "rows": rows}))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"


def _cut_all(words: list[str]) -> list[str]:
    return [_cut(word) for word in words[:_MAX_ITEMS]]


_SHOWN: dict[Kind, Callable[[tuple[Any, ...]], dict[str, object]]] = {
    "texts": lambda content: {"text": _cut(content[0])},
    "pairs": lambda content: {"source": _cut(content[0]), "target": _cut(content[1])},
    "tagged": lambda content: {"tokens": _cut_all(content[0]), "tags": _cut_all(content[1])},
    "numbers": lambda content: {"values": content[0][:_MAX_ITEMS]},
}


class Inputs:
    """Writes ``inputs.json``, the rows in their order as what can be embedded, and the pictures it names.

    To be used as a context. Numbers can't be embedded; sentences are put together, of pairs it is the source.
    """

    def __init__(self, kind: Kind, folder: Path) -> None:
        self._kind = kind
        self._folder = folder
        self._count = 0
        self._file: BinaryIO | None = None

    @staticmethod
    def is_wanted(kind: Kind, num_rows: int, num_bytes: int, limits: Limits) -> bool:
        """Whether a data set is small enough, and of a kind that can be embedded."""
        return kind != "numbers" and num_rows <= limits.max_inputs and num_bytes <= limits.max_inputs_bytes

    def __enter__(self) -> Self:
        self._file = (self._folder / "inputs.json").open("xb")
        if self._kind == "images":
            (self._folder / "images").mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.write(b"]\n" if self._count else b"[]\n")
            self._file.close()

    def add(self, content: tuple[Any, ...]) -> None:
        """The next row."""
        made = {"image": self._keep(content[0])} if self._kind == "images" else {"text": _joined(content[0])}
        if self._file is not None:
            self._file.write(b",\n" if self._count else b"[")
            self._file.write(msgspec.json.encode(made))
        self._count += 1

    def _keep(self, data: bytes) -> str:
        name = f"images/{self._count:06}.{'jpg' if data.startswith(_JPEG_START) else 'png'}"
        (self._folder / name).write_bytes(data)
        return name


def _joined(content: str | list[str]) -> str:
    return content if isinstance(content, str) else " ".join(content)
