"""Real data as a person would upload it: files made of the pinned sets."""

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from workers.train.data import load_images, load_shakespeare, load_texts

Pixels = npt.NDArray[np.uint8]


def pictures_npz(name: str, num_rows: int) -> bytes:
    """Labelled pictures as ``x`` and ``y`` of one .npz file."""
    pictures = load_images(name).part(num_rows, 1)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=_last(pictures.train_x), y=pictures.train_y.numpy())
    return buffer.getvalue()


def pictures_zip(name: str, num_rows: int) -> bytes:
    """Labelled pictures as PNG files in folders named after their classes."""
    pictures = load_images(name).part(num_rows, 1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, (pixels, label) in enumerate(zip(_last(pictures.train_x), pictures.train_y, strict=True)):
            archive.writestr(f"{pictures.classes[int(label)]}/{number:05}.png", png(pixels))
    return buffer.getvalue()


def png(pixels: Pixels) -> bytes:
    """One picture (H, W) or (H, W, 3), uint8, as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "PNG")
    return buffer.getvalue()


def picture(name: str, number: int) -> bytes:
    """A picture of the test part of a set, as a PNG file."""
    return png(_last(load_images(name).test_x[number : number + 1])[0])


def texts_csv(name: str, num_rows: int | None = None) -> bytes:
    """Labelled texts as a CSV file with a header."""
    texts = load_texts(name)
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(("text", "label"))
    writer.writerows((text, texts.classes[label]) for text, label in _some(texts.train, num_rows))
    return buffer.getvalue().encode()


def texts_jsonl(name: str, num_rows: int | None = None) -> bytes:
    """Labelled texts as a JSON object a line."""
    texts = load_texts(name)
    rows = ({"text": text, "label": texts.classes[label]} for text, label in _some(texts.train, num_rows))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def shakespeare(num_characters: int) -> bytes:
    """The beginning of the plays, as plain text."""
    return load_shakespeare().train[:num_characters].encode()


def _some(rows: Sequence[tuple[str, int]], num_rows: int | None) -> Iterable[tuple[str, int]]:
    # Every so many of them: the first ones may all be of one class.
    return rows if num_rows is None else rows[:: max(1, len(rows) // num_rows)][:num_rows]


def _last(x_BCHW: torch.Tensor) -> Pixels:
    """Channels last, uint8."""
    return x_BCHW.permute(0, 2, 3, 1).contiguous().numpy()
