"""Whatever is sent, memory stays bounded: measured in a process of its own."""

import json
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.workers.train.datasets.making import gzipped, parquet, png, raw_zip, tarred, zeros, zipped

_GIGABYTE = 1 << 30
_MOST_BYTES = 300_000_000

_CHILD = """
import json, sys
from pathlib import Path
from workers.train.datasets import FileSource, Limits, validate

def peak():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])

path, name, folder, limits = sys.argv[1:]
small = Path(folder) / "small.csv"
small.write_text("text,label\\n" + "a b,c\\n" * 9)
validate(FileSource(path=small, name="small.csv"), Path(folder) / "small")
before = peak()
found = validate(FileSource(path=Path(path), name=name), Path(folder) / "made", Limits(**json.loads(limits)))
issue = found.issues[0] if found.issues else None
print(json.dumps({
    "grown": peak() - before, "usable": found.is_usable, "rows": found.num_rows,
    "issue": [issue.row, issue.message] if issue else None,
}))
"""


def _long_line() -> bytes:
    good = '{"text": "good", "label": "a"}\n' * 6
    return (good + '{"text": "' + "x" * 100_000_000 + '"}\n' + good).encode()


def _many_files() -> bytes:
    """A directory of 300,000 empty files."""
    name = b"a/%06d.png"
    entry = struct.Struct("<4s4B4H3L5H2L")
    entries = b"".join(
        entry.pack(b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, len(name % at), 0, 0, 0, 0, 0, 0) + name % at
        for at in range(300_000)
    )
    local = b"PK\3\4" + bytes(26)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, len(entries), len(local), 0)
    return local + entries + end


def _long_header() -> bytes:
    """A tar whose extended header says, and has, two gigabytes."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2 * _GIGABYTE
    block = header.tobuf(tarfile.GNU_FORMAT)
    return gzipped(block) + gzipped(bytes(64 << 20)) * 32


def _one_text_for_many_rows() -> bytes:
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), ["x" * 1_000_000])
    return parquet({"text": values}, compression="zstd")


CASES: dict[str, tuple[str, Callable[[], bytes], dict[str, int]]] = {
    "10 GB of zeros in a table": ("a.zip", lambda: raw_zip("a.csv", zeros(10 * _GIGABYTE), 10 * _GIGABYTE), {}),
    "900 MB of zeros in a picture": ("a.zip", lambda: raw_zip("a/b.png", zeros(900 << 20), 900 << 20), {}),
    "900 MB of zeros in a table": ("a.zip", lambda: raw_zip("a.csv", zeros(900 << 20), 900 << 20), {}),
    "zeros in a tar": ("a.tar.gz", lambda: gzipped(tarred({"a/b.txt": bytes(400 << 20)})), {}),
    "a line of 100 MB": ("a.jsonl", _long_line, {}),
    "a quote over 100 MB": ("a.csv", lambda: b'text,label\n"' + b"x,a\n" * 25_000_000, {"max_rows": 100_000}),
    "a directory of 300,000 files": ("a.zip", _many_files, {}),
    "a header of two gigabytes": ("a.tar.gz", _long_header, {}),
    "one text for many rows": ("a.parquet", _one_text_for_many_rows, {"max_unpacked_bytes": 512 << 20}),
    "a picture of 36 megapixels": (
        "a.zip", lambda: zipped({f"a/{at}.png": png(np.zeros((6000, 6000), np.uint8)) for at in range(4)}), {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_memory_stays_bounded(case: str, tmp_path: Path) -> None:
    """At most 300 MB above what a small table takes, and an answer either way."""
    name, content, limits = CASES[case]
    path = tmp_path / "sent"
    path.write_bytes(content())

    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), name, str(tmp_path), json.dumps(limits)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip

    assert (0, "") == (done.returncode, done.stderr)
    found = json.loads(done.stdout)
    assert found["grown"] < _MOST_BYTES
    assert found["usable"] or found["issue"]
