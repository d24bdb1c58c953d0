"""Single values as somebody wrote them: texts, labels, splits, numbers."""

import math

import numpy as np
import numpy.typing as npt

from workers.train.datasets.facts import BadRow, Split

_MAX_LABEL = 100
_MAX_SHOWN = 40
_LARGEST = float(np.finfo(np.float32).max)
#: What bytes that are no UTF-8 become under ``errors="surrogateescape"``.
_ESCAPED = range(0xDC80, 0xDD00)

SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train",
    "test": "test", "testing": "test", "eval": "test", "dev": "test",
    "val": "test", "valid": "test", "validation": "test",
}  # fmt: skip


def shown(text: str) -> str:
    """Somebody's words in a message: quoted, cut, with nothing in them that doesn't print."""
    cut = text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
    return '"' + "".join(sign if sign.isprintable() else "?" for sign in cut) + '"'


def clean_text(text: str, most: int, what: str = "text") -> str:
    """The text, if it can be learned from.

    Raises:
        BadRow: it is empty, longer than ``most`` bytes, no UTF-8 or holds NUL bytes.
    """
    check_unicode(text, what)
    if "\0" in text:
        raise BadRow(f"{what} holds a NUL byte")
    # A character takes at most four bytes, so that short texts need not be encoded to be measured.
    if len(text) * 4 > most and len(text.encode()) > most:
        raise BadRow(f"{what} is longer than {most:,} bytes")
    if not text or text.isspace():
        raise BadRow(f"{what} is empty")
    return text


def check_unicode(text: str, what: str) -> None:
    """Raise `BadRow` with the byte where a text was no UTF-8."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if code in _ESCAPED:
            raise BadRow(
                f"{what} is not UTF-8: byte 0x{code - 0xDC00:02X} at character {error.start + 1}"
            ) from error
        raise BadRow(f"{what} holds half of a surrogate pair at character {error.start + 1}") from error


def clean_label(value: object) -> str | None:
    """A class's name; None where there is no label.

    Raises:
        BadRow: no name, or longer than a hundred characters.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRow("label is not a finite number")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float):
        raise BadRow("label is neither text nor a number")
    name = str(value).strip()
    check_unicode(name, "label")
    if len(name) > _MAX_LABEL:
        raise BadRow(f"label is longer than {_MAX_LABEL} characters: {shown(name)}")
    if not name.isprintable():
        raise BadRow(f"label holds signs that don't print: {shown(name)}")
    return name or None


def clean_split(value: object) -> Split | None:
    """The split that a row names; None where it names none.

    Raises:
        BadRow: it is neither for training nor for tests.
    """
    if value is None or value == "":
        return None
    split = SPLIT_NAMES.get(value.strip().lower()) if isinstance(value, str) else None
    if split is None:
        raise BadRow(f'split {shown(str(value))} is unknown: it is "train" or "test"')
    return split


def is_number(cell: str) -> bool:
    """Whether a cell reads as a number, be it one that is not finite."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def clean_numbers(cells: list[str], names: list[str]) -> npt.NDArray[np.float32]:
    """A row of numbers out of the cells of a table.

    Raises:
        BadRow: a cell is no finite number; the message names its column.
    """
    try:
        return finite(np.array([float(cell) for cell in cells], np.float64), names)
    except ValueError:
        at = next(at for at, cell in enumerate(cells) if not is_number(cell))
        what = shown(cells[at]) if cells[at].strip() else "empty"
        raise BadRow(f"column {shown(names[at])} is no number: {what}") from None


def finite(values: npt.NDArray[np.float64], names: list[str] | None = None) -> npt.NDArray[np.float32]:
    """The values in single precision; columns without names are told by their numbers.

    Raises:
        BadRow: one is NaN, infinite, or too large.
    """
    good = np.abs(values) <= _LARGEST
    if not good.all():
        at = int(np.argmin(good))
        name = shown(names[at]) if names else at + 1
        raise BadRow(f"column {name} is no finite number: {values[at]}")
    return values.astype(np.float32)
