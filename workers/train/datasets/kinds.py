"""How the content of a row is stored in a column, measured and digested, by the kind of a data set."""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from workers.train.datasets.facts import Kind, Pair, Picture, Tagged


class Form(NamedTuple):
    """One kind. A row's content becomes as many values as there are fields.

    ``take`` gives these values, how many bytes they have about, and the digest of what they mean.
    """

    fields: tuple[tuple[str, pa.DataType], ...]
    take: Callable[[Any], tuple[tuple[Any, ...], int, bytes]]
    compression: str


def form_of(kind: Kind, width: int = 0) -> Form:
    """The form of a kind; ``width`` is how many numbers a row has."""
    words = pa.list_(pa.string())
    forms: dict[Kind, Form] = {
        "images": Form((("image", pa.binary()),), _picture, "none"),
        "texts": Form((("text", pa.string()),), _text, "zstd"),
        "tagged": Form((("tokens", words), ("tags", words)), _tagged, "zstd"),
        "pairs": Form((("source", pa.string()), ("target", pa.string())), _pair, "zstd"),
        "numbers": Form((("values", pa.list_(pa.float32(), width)),), _numbers, "zstd"),
    }
    return forms[kind]


def _picture(picture: Picture) -> tuple[tuple[bytes], int, bytes]:
    return (picture.data,), len(picture.data), picture.digest


def _text(text: str) -> tuple[tuple[str], int, bytes]:
    encoded = text.encode()
    return (text,), len(encoded), hashlib.sha256(encoded).digest()


def _pair(pair: Pair) -> tuple[tuple[str, str], int, bytes]:
    num_bytes, digest = _joined(f"{pair.source}\0{pair.target}")
    return (pair.source, pair.target), num_bytes, digest


def _tagged(tagged: Tagged) -> tuple[tuple[list[str], list[str]], int, bytes]:
    num_bytes, digest = _joined("\0".join([*tagged.tokens, *tagged.tags]))
    # Each token and each tag also has a length and a place in a list.
    return (tagged.tokens, tagged.tags), num_bytes + 16 * len(tagged.tokens), digest


def _numbers(values: "np.ndarray[Any, np.dtype[np.float32]]") -> tuple[tuple[Any], int, bytes]:
    raw = values.astype("<f4").tobytes()
    return (values,), len(raw), hashlib.sha256(raw).digest()


def _joined(text: str) -> tuple[int, bytes]:
    """The bytes and the digest of texts that were put together by NUL bytes, which none of them holds."""
    encoded = text.encode()
    return len(encoded), hashlib.sha256(encoded).digest()
