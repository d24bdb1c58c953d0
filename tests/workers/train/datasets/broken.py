"""Kinds of broken data sets, and what is said of each."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.workers.train.datasets.making import (
    arrays,
    digit_files,
    gzipped,
    linked,
    parquet,
    png,
    raw_zip,
    saved,
    table,
    tarred,
    zeros,
    zipped,
)

_GOOD = ("good one,a", "good two,b", "good three,a", "good four,b", "good five,a")
_GIGABYTE = 1 << 30


class Broken(NamedTuple):
    """A file, and its first issue: the row, the message. ``is_usable``: only rows are left out."""

    name: str
    content: Callable[[], bytes]
    row: int | None
    message: str
    is_usable: bool = False


def _with_row(row: str) -> bytes:
    """A good table but for its third row."""
    return table("text,label", *_GOOD[:2], row, *_GOOD[2:])


def _with_picture(content: bytes) -> bytes:
    """Good pictures but for the third."""
    files = list(digit_files(8).items())
    return zipped(dict([*files[:2], ("digits/7/odd.png", content), *files[2:]]))


def _gigapixel() -> bytes:
    whole = png(np.zeros((4, 4), np.uint8))
    header = whole[12:16] + struct.pack(">2L", 50_000, 20_000) + whole[24:29]
    return whole[:12] + header + struct.pack(">L", zlib.crc32(header)) + whole[33:]


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def _bad_checksum() -> bytes:
    content = zipped({**digit_files(6), "digits/7/odd.png": b"first" * 20 + b"last"})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        header = archive.getinfo("digits/3/0003.png").header_offset
    return _flipped(content, header + 30 + len("digits/3/0003.png") + 12)


def _encrypted() -> bytes:
    return raw_zip("digits/0/1.png", b"x" * 40, 28, flags=1)


def _zip_with_link() -> bytes:
    out = io.BytesIO(zipped(digit_files(6)))
    with zipfile.ZipFile(out, "a") as archive:
        info = zipfile.ZipInfo("digits/0/link.png")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


def _pickled() -> bytes:
    return arrays(x=np.array([{"a": 1}, None, "b", 4], dtype=object), y=np.arange(4))


def _traversal() -> bytes:
    return tarred({**digit_files(6), "../../../tmp/outside.png": png(np.zeros((8, 8), np.uint8))})


def _lying_tar() -> bytes:
    content = bytearray(tarred(digit_files(6)))
    content[124:136] = b"77777777777\0"
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    return bytes(content)


def _nested() -> bytes:
    rows = [{"text": f"text {at}", "label": "ab"[at % 2]} for at in range(6)]
    lines = [json.dumps(row) for row in rows]
    lines.insert(2, '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}")
    return table(*lines)


def _encrypted_parquet() -> bytes:
    whole = parquet({"text": ["a", "b", "c", "d"]})
    return b"PARE" + whole[4:-4] + b"PARE"


def _parquet_of_a_value_it_lacks() -> bytes:
    # Six texts are numbers of three bits each; the last is made a 7.
    whole = parquet({"text": [f"text {at}" for at in range(6)]})
    assert 1 == whole.count(b"\x88\xc6\x02")
    return whole.replace(b"\x88\xc6\x02", b"\x88\xc6\x03")


def _arrays_with_a_sign_that_is_none() -> bytes:
    signs = np.array([ord(sign) for sign in "abababab"], np.uint32)
    signs[4] = 0x110000
    return arrays(x=np.zeros((8, 4, 4), np.uint8), y=np.frombuffer(signs, "<U1"))


def _index(*rows: str) -> bytes:
    files = digit_files(6, root="")
    return zipped({**{name.rpartition("/")[2]: content for name, content in files.items()},
                   "labels.csv": table("file,label", *rows)})  # fmt: skip


BROKEN = {
    "an empty file": Broken("a.csv", bytes, None, "The file is empty."),
    "wrong columns": Broken(
        "a.csv", lambda: table("when,what", "monday,rain", "tuesday,sun"), None,
        'Columns are "when", "what"; looked for: text, label; source, target; tokens, tags; or numbers only.',
    ),
    "a header alone": Broken("a.csv", lambda: table("text,label"), None, "It has no rows."),
    "three rows": Broken(
        "a.csv", lambda: table("text,label", *_GOOD[:3]), None, "It has 3 good rows; at least 4 are needed."
    ),
    "one class": Broken(
        "a.csv", lambda: table("text,label", *(f"text {at},a" for at in range(9))), None,
        'It has one class only, "a": classifiers can\'t learn from it.', is_usable=True,
    ),
    "labels with one row each": Broken(
        "a.csv", lambda: table("text,label", *(f"text {at},{at}" for at in range(9))), None,
        "Every label has one row only: is the label column the right one?", is_usable=True,
    ),
    "a row with too many fields": Broken(
        "a.csv", lambda: _with_row("a,b,c"), 3, "has 3 fields where the header has 2", is_usable=True
    ),
    "an empty text": Broken("a.csv", lambda: _with_row(" ,b"), 3, "text is empty", is_usable=True),
    "a huge CSV field": Broken(
        "a.csv", lambda: _with_row("x" * 1_500_000 + ",a"), 3,
        "has a field longer than 1,048,576 bytes (is a quote not closed?)", is_usable=True,
    ),
    "a quote that is never closed": Broken(
        "a.csv", lambda: table("text,label", *_GOOD, '"open,a', *("more,b" for _ in range(160_000))), 6,
        "has a field longer than 1,048,576 bytes (is a quote not closed?)", is_usable=True,
    ),
    "NUL bytes": Broken("a.csv", lambda: _with_row("a\0b,a"), 3, "text holds a NUL byte", is_usable=True),
    "one row in Latin-1": Broken(
        "a.csv", lambda: _with_row("caf@,a").replace(b"@", b"\xe9"), 3,
        "text is not UTF-8: byte 0xE9 at character 4", is_usable=True,
    ),
    "a text in Latin-1": Broken(
        "a.txt", lambda: "Un café noir.\n\n".encode("latin-1") * 9, None,
        "The text is not UTF-8: byte 0xE9 at 6. Save it as UTF-8.",
    ),
    "UTF-16": Broken(
        "a.csv", lambda: table("text,label", *_GOOD).decode().encode("utf-16"), None,
        "The text is in UTF-16, its first bytes say: save it as UTF-8.",
    ),
    "NaN in numbers": Broken(
        "a.csv", lambda: table("width,height,label", "1,2,a", "3,NaN,b", *("5,6,a" for _ in range(8))), 2,
        'column "height" is no finite number: nan', is_usable=True,
    ),
    "numbers too large": Broken(
        "a.csv", lambda: table("width,height", "1,2", "3,1e300", *("5,6" for _ in range(8))), 2,
        'column "height" is no finite number: 1e+300', is_usable=True,
    ),
    "words among numbers": Broken(
        "a.csv", lambda: table("width,height", "1,2", "3,tall", *("5,6" for _ in range(8))), 2,
        'column "height" is no number: "tall"', is_usable=True,
    ),
    "an unknown split": Broken(
        "a.csv", lambda: table("text,label,split", *(f"{row},train" for row in _GOOD), "x,a,maybe"), 6,
        'split "maybe" is unknown: it is "train" or "test"', is_usable=True,
    ),
    "deep JSON": Broken("a.jsonl", _nested, 3, "is nested too deeply", is_usable=True),
    "a JSON array": Broken(
        "a.json", lambda: b'[{"text": "a"}, {"text": "b"}]', None,
        "No line of the first 1 is a JSON object: line 1 is no JSON object. Write one object a line.",
    ),
    "broken JSON": Broken(
        "a.jsonl", lambda: table(*('{"text": "good"}' for _ in range(5)), '{"text": '), 6,
        "is no JSON: Input data was truncated", is_usable=True,
    ),
    "tags that are missing": Broken(
        "a.jsonl", lambda: table(
            *('{"tokens": ["a", "b"], "tags": ["X", "Y"]}' for _ in range(5)),
            '{"tokens": ["a", "b"], "tags": ["X"]}',
        ), 6, "has 2 tokens, but 1 tags", is_usable=True,
    ),
    "an empty picture": Broken(
        "a.zip", lambda: _with_picture(b""), 3, '"digits/7/odd.png" is empty', is_usable=True
    ),
    "a picture that is none": Broken(
        "a.zip", lambda: _with_picture(b"hello"), 3,
        '"digits/7/odd.png" is no picture, or its beginning is damaged', is_usable=True,
    ),
    "a truncated picture": Broken(
        "a.zip", lambda: _with_picture(png(np.arange(10_000, dtype=np.uint8).reshape(100, 100))[:-60]), 3,
        '"digits/7/odd.png" is damaged or cut off: it could not be decoded', is_usable=True,
    ),
    "a gigapixel picture": Broken(
        "a.zip", lambda: _with_picture(_gigapixel()), 3,
        '"digits/7/odd.png" claims more than 40,000,000 pixels', is_usable=True,
    ),
    "a format of pictures that isn't read": Broken(
        "a.zip",
        lambda: zipped({**digit_files(6), "digits/1/x.tif": saved(Image.new("L", (4, 4)), "TIFF")}), 7,
        '"digits/1/x.tif" is of a format that isn\'t read: use .bmp, .gif, .jpeg, .jpg, .pbm, .pgm, .png, '
        ".ppm, .webp", is_usable=True,
    ),
    "a wrong checksum": Broken(
        "a.zip", _bad_checksum, 4, '"digits/3/0003.png" is damaged: its checksum is wrong', is_usable=True
    ),
    "an encrypted ZIP": Broken(
        "a.zip", _encrypted, None, '"digits/0/1.png" is encrypted: pack it without a password.'
    ),
    "a truncated ZIP": Broken(
        "a.zip", lambda: zipped(digit_files(6))[:-40], None,
        "The ZIP archive is damaged or cut off: its directory can't be read.",
    ),
    "a truncated tar": Broken(
        "a.tar", lambda: tarred(digit_files(6))[:1800], None,
        "The tar archive is cut off: it ends in the middle of a file.",
    ),
    "a truncated tar.gz": Broken(
        "a.tar.gz", lambda: tarred(digit_files(60), "gz")[:-3000], None,
        "The gzip file is damaged or cut off: it can't be unpacked.",
    ),
    "a tar that lies about sizes": Broken(
        "a.tar", _lying_tar, None, "It unpacks to more than the 256 MiB that are allowed for its size."
    ),
    "10 GB of zeros in 10 MB": Broken(
        "a.zip", lambda: raw_zip("table.csv", zeros(10 * _GIGABYTE), 10 * _GIGABYTE), None,
        "It unpacks to more than the 1,012 MiB that are allowed for its size.",
    ),
    "zeros that say they are few": Broken(
        "a.zip", lambda: raw_zip("table.csv", zeros(_GIGABYTE), 1000), None,
        '"table.csv" is damaged: it unpacks to more than the archive says.',
    ),
    "path traversal": Broken(
        "a.tar", _traversal, 7, '"../../../tmp/outside.png" leads outside of the archive', is_usable=True
    ),
    "an absolute path": Broken(
        "a.zip", lambda: zipped({**digit_files(6), "/tmp/outside.png": b"x"}), 7,  # noqa: S108  never opened
        '"tmp/outside.png" leads outside of the archive', is_usable=True,
    ),
    "a symbolic link in a tar": Broken(
        "a.tar", lambda: tarred({**digit_files(6), "l": linked("digits/0/link.png")}), 7,
        '"digits/0/link.png" is a symbolic link', is_usable=True,
    ),
    "a hard link": Broken(
        "a.tar", lambda: tarred({**digit_files(6), "l": linked("digits/0/link.png", tarfile.LNKTYPE)}), 7,
        '"digits/0/link.png" is a hard link', is_usable=True,
    ),
    "a device": Broken(
        "a.tar", lambda: tarred({**digit_files(6), "l": linked("digits/0/link.png", tarfile.CHRTYPE)}), 7,
        '"digits/0/link.png" is a device', is_usable=True,
    ),
    "a symbolic link in a ZIP": Broken(
        "a.zip", _zip_with_link, 7, '"digits/0/link.png" is a link', is_usable=True
    ),
    "dotfiles alone": Broken(
        "a.zip", lambda: zipped({"__MACOSX/a/._1.png": b"x", ".DS_Store": b"y", "a/.hidden.png": b"z"}), None,
        "The archive holds no pictures, texts or tables.",
    ),
    "an archive in an archive": Broken(
        "a.zip", lambda: zipped({"inner.zip": zipped(digit_files(6))}), None,
        '"inner.zip" is inside of an archive: send it by itself.',
    ),
    "a path that comes twice": Broken(
        "a.tar", lambda: tarred(digit_files(6))[: 6 * 1024] + tarred(digit_files(1)), 7,
        '"digits/0/0000.png" is in the archive twice', is_usable=True,
    ),
    "a file that the index lacks": Broken(
        "a.zip", lambda: _index(*(f"{at:04}.png,a" for at in range(5))), 6, '"0005.png" is not in the index',
        is_usable=True,
    ),
    "a file that only the index has": Broken(
        "a.zip", lambda: _index(*(f"{at:04}.png,a" for at in range(7))), 7,
        '"0006.png" is not in the archive',
        is_usable=True,
    ),
    "a table that is no index": Broken(
        "a.zip", lambda: zipped({**digit_files(6), "about.csv": table("what,when", "a,b")}), None,
        '"about.csv" names no pictures: looked for a column file, filename, path or image', is_usable=True,
    ),
    "more than half of the rows": Broken(
        "a.csv", lambda: table("text,label", *_GOOD, *("a,b,c" for _ in range(6))), None,
        "6 of 11 rows can't be used, more than half: see the rows' issues.",
    ),
    "a wrong name": Broken(
        "a.zip", lambda: table("text,label", *_GOOD), None,
        "The file is named .zip, but its first bytes say that it is no such file.",
    ),
    "a format that isn't read": Broken(
        "a.doc", lambda: b"\xd0\xcf\x11\xe0 and so on", None,
        "The file is of a format that isn't read. Formats: .zip, .tar, .tar.gz, .npz, .csv, .tsv, .jsonl, "
        ".parquet, .txt.",
    ),
    "gzip around something else": Broken(
        "a.csv.gz", lambda: gzipped(table("text,label", *_GOOD)), None,
        "The file is packed with gzip, but there is no tar archive in it: unpack it.",
    ),
    "a pickle": Broken(
        "a.pkl", lambda: pickle.dumps([1, 2, 3]), None,
        "The file is of a format that isn't read. Formats: .zip, .tar, .tar.gz, .npz, .csv, .tsv, .jsonl, "
        ".parquet, .txt.",
    ),
    "pickled arrays": Broken(
        "a.npz", _pickled, None, 'Array "x.npy" holds pickled objects, which are never opened.'
    ),
    "arrays of other names": Broken(
        "a.npz", lambda: arrays(weights=np.zeros((5, 3))), None,
        'Arrays are "weights"; looked for: x or images, y or labels, also as x_train, x_test.',
    ),
    "arrays of different length": Broken(
        "a.npz", lambda: arrays(x=np.zeros((9, 4, 4), np.uint8), y=np.zeros(8)), None,
        '9 rows in "x.npy", but 8 in "y.npy".',
    ),
    "pixels that are no numbers": Broken(
        "a.npz",
        lambda: arrays(x=np.where(np.arange(9) == 4, np.nan, 0.5)[:, None, None] * np.ones((1, 4, 4))), 5,
        "pixels are no finite numbers", is_usable=True,
    ),
    "a label that is no text": Broken(
        "a.npz", _arrays_with_a_sign_that_is_none, 5, "label holds a sign that is none", is_usable=True
    ),
    "corrupt Parquet": Broken(
        "a.parquet",
        lambda: parquet({"text": ["a", "b", "c", "d"]})[:-30] + b"x" * 22 + b"\x16\0\0\0PAR1", None,
        "The Parquet file is damaged or cut off: it can't be read.",
    ),
    "truncated Parquet": Broken(
        "a.parquet", lambda: parquet({"text": ["a", "b", "c", "d"]})[:-30], None,
        "The Parquet file is damaged or cut off: it can't be read.",
    ),
    "Parquet of a value it lacks": Broken(
        "a.parquet", _parquet_of_a_value_it_lacks, None,
        "The Parquet file is damaged or cut off: it can't be read.",
    ),
    "encrypted Parquet": Broken(
        "a.parquet", _encrypted_parquet, None, "The Parquet file is encrypted: write it without a key."
    ),
    "nested Parquet": Broken(
        "a.parquet", lambda: parquet({"text": [{"a": "b"}] * 6}), None,
        'Column "text" is nested: it should hold one value a row.',
    ),
}  # fmt: skip
