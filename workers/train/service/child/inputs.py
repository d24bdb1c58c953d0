"""The rows of a data set as inputs of an embedding job."""

from pathlib import Path

import msgspec

from bus.messages import Input, ObjectInput, TextInput
from bus.messages.embedding import encode_inputs
from workers.train.service.frames import INPUTS_FILE

_ROWS_FILE = "inputs.json"
_MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png"}


class _Row(msgspec.Struct):
    """A text, or a picture's file below the folder of prepared files."""

    text: str | None = None
    image: str | None = None


def write_inputs(folder: Path, prefix: str) -> None:
    """Turn the list of rows, where there is one, into inputs whose files will lie under ``prefix``."""
    rows_file = folder / _ROWS_FILE
    if rows_file.is_file():
        rows = msgspec.json.decode(rows_file.read_bytes(), type=list[_Row])
        (folder / INPUTS_FILE).write_bytes(encode_inputs([_input(row, folder, prefix) for row in rows]))
        rows_file.unlink()


def _input(row: _Row, folder: Path, prefix: str) -> Input:
    if row.image is None:
        return TextInput(text=row.text or "")
    path = folder / row.image
    return ObjectInput(
        key=f"{prefix}/{row.image}", media_type=_MEDIA_TYPES[path.suffix], byte_size=path.stat().st_size
    )
