"""Whatever is sent, memory stays bounded: measured in a process of its own."""

import json
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from tests.workers.train.datasets.making import gzipped, parquet, png, raw_zip, tarred, zeros, zipped

_GIGABYTE = 1 << 30
_MOST_BYTES = 300_000_000
_ZEROS_CRC = zlib.crc32(bytes(250 << 20))

#: Validates one file after the other; the peak is begun anew before each (proc(5), clear_refs).
_CHILD = """
import json, sys
from pathlib import Path
from workers.train.datasets import FileSource, Limits, validate

def memory(what):
    return 1024 * int(Path("/proc/self/status").read_text().split(what)[1].split()[0])

folder = Path(sys.argv[1])
small = folder / "small.csv"
small.write_text("text,label\\n" + "a b,c\\n" * 9)
validate(FileSource(path=small, name="small.csv"), folder / "small")
before = memory("VmRSS:")
for line in sys.stdin:
    case = json.loads(line)
    Path("/proc/self/clear_refs").write_text("5")
    source = FileSource(path=Path(case["path"]), name=case["name"])
    found = validate(source, Path(case["path"] + ".made"), Limits(**case["limits"]))
    issue = found.issues[0] if found.issues else None
    print(json.dumps({
        "grown": memory("VmHWM:") - before, "usable": found.is_usable, "rows": found.num_rows,
        "issue": [issue.row, issue.message] if issue else None,
    }), flush=True)
"""


def _long_line() -> bytes:
    good = '{"text": "good", "label": "a"}\n' * 6
    return (good + '{"text": "' + "x" * 100_000_000 + '"}\n' + good).encode()


def _many_files() -> bytes:
    """A directory of 100,000 empty files."""
    name = b"a/%06d.png"
    entry = struct.Struct("<4s4B4H3L5H2L")
    entries = b"".join(
        entry.pack(b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 0, 0, 0, 0, len(name % at), 0, 0, 0, 0, 0, 0) + name % at
        for at in range(100_000)
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


class Case(NamedTuple):
    """A file, and its first issue."""

    name: str
    content: Callable[[], bytes]
    row: int | None
    message: str
    limits: dict[str, int] = {}  # noqa: RUF012  nobody writes into it


CASES = {
    "10 GB of zeros in a table": Case(
        "a.zip", lambda: raw_zip("a.csv", zeros(10 * _GIGABYTE), 10 * _GIGABYTE), None,
        "It unpacks to more than the 1,012 MiB that are allowed for its size.",
    ),
    "zeros in a picture": Case(
        "a.zip", lambda: raw_zip("a/b.png", zeros(250 << 20), 250 << 20), None,
        "1 of 1 rows can't be used, more than half: see the rows' issues.",
    ),
    "zeros in a table": Case(
        "a.zip", lambda: raw_zip("a.csv", zeros(250 << 20), 250 << 20, crc=_ZEROS_CRC), None,
        "The first line is longer than 2,097,152 bytes: it should name the columns.",
    ),
    "zeros in a tar": Case(
        "a.tar.gz", lambda: gzipped(tarred({"a/b.txt": bytes(300 << 20)})), None,
        "It unpacks to more than the 256 MiB that are allowed for its size.",
    ),
    "a line of 100 MB": Case("a.jsonl", _long_line, 7, "is longer than 2,097,152 bytes"),
    "quotes that are never closed": Case(
        "a.csv", lambda: b'text,label\n"' + b"x,a\n" * 5_000_000, None, "It has more than 100,000 rows.",
        {"max_rows": 100_000},
    ),
    "a directory of 100,000 files": Case(
        "a.zip", _many_files, None,
        "100,000 of 100,000 rows can't be used, more than half: see the rows' issues."
    ),
    "a header of two gigabytes": Case(
        "a.tar.gz", _long_header, None, "The tar archive is damaged: a header can't be read."
    ),
    "one text for many rows": Case(
        "a.parquet", _one_text_for_many_rows, None,
        "It unpacks to more than the 512 MiB that are allowed for its size.",
        {"max_unpacked_bytes": 512 << 20},
    ),
    "pictures of 36 megapixels": Case(
        "a.zip",
        lambda: zipped({f"a/{at}.png": png(np.zeros((6000, 6000), np.uint8)) for at in range(4)}), None,
        'It has one class only, "a": classifiers can\'t learn from it.',
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Case], dict[str, Any]]]:
    """Asks the one process, whose imports take longer than all cases."""
    folder = tmp_path_factory.mktemp("memory")
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None

    def ask(case: Case) -> dict[str, Any]:
        path = folder / f"sent-{len(list(folder.iterdir()))}"
        path.write_bytes(case.content())
        asked = {"path": str(path), "name": case.name, "limits": case.limits}
        child.stdin.write(json.dumps(asked) + "\n")  # type: ignore[union-attr]  # asserted above
        child.stdin.flush()  # type: ignore[union-attr]  # asserted above
        found: dict[str, Any] = json.loads(child.stdout.readline())  # type: ignore[union-attr]  # asserted above
        return found

    yield ask
    child.stdin.close()
    assert child.wait(30) == 0
    child.stdout.close()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_memory_stays_bounded(case: Case, seen: Callable[[Case], dict[str, Any]]) -> None:
    """At most 300 MB above what a small table takes, and an answer that says why."""
    found = seen(case)

    assert [case.row, case.message] == found["issue"]
    assert found["grown"] < _MOST_BYTES
