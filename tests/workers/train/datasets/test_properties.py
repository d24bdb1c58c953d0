"""Properties of whatever is sent: bytes without sense, and small tables of any content."""

import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.workers.train.datasets.making import (
    arrays,
    digit_files,
    look,
    parquet,
    png,
    saved,
    table,
    tarred,
    zipped,
)
from workers.train.datasets import Limits, Prepared, open_prepared
from workers.train.datasets.facts import SPLITS
from workers.train.datasets.pictures import SUFFIXES

_NAMES = (
    "a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.npz", "a.csv", "a.tsv", "a.jsonl", "a.json",
    "a.parquet", "a.txt", "a.md", "a", "a.exe",
)  # fmt: skip
_SMALL = Limits(max_unpacked_bytes=1 << 20, free_unpacked_bytes=1 << 20)
_FAST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _whole() -> dict[str, bytes]:
    files = digit_files(6)
    rows = [{"text": f"text {at}", "label": "ab"[at % 2]} for at in range(6)]
    columns = {"text": [row["text"] for row in rows], "label": [row["label"] for row in rows]}
    return {
        "a.zip": zipped(files),
        "b.zip": zipped({"a.png": png(np.eye(4, dtype=np.uint8)), "i.csv": b"file,label\na.png,b\n"}),
        "a.tar": tarred(files),
        "a.tar.gz": tarred(files, "gz"),
        "a.tar.bz2": tarred(files, "bz2"),
        "a.tar.xz": tarred(files, "xz"),
        "a.npz": arrays(x=np.zeros((5, 4, 4), np.uint8), y=np.arange(5)),
        "b.npz": arrays(x=np.zeros((5, 4)), y=np.array(["a", "b", "c", "d", "e"])),
        "a.parquet": parquet(columns),
        "a.csv": table("text,label", *(f"{row['text']},{row['label']}" for row in rows)),
        "a.jsonl": table(*map(json.dumps, rows)),
    }


_WHOLE = st.deferred(lambda: st.sampled_from(sorted(_whole().items())))


@_FAST
@given(name=st.sampled_from(_NAMES), content=st.binary(max_size=2000))
def test_bytes_without_sense_never_raise(name: str, content: bytes) -> None:
    """Under any name they are told of, or used."""
    with tempfile.TemporaryDirectory() as folder:
        found = look(Path(folder), name, content, _SMALL)

    assert found.is_usable or found.issues


@_FAST
@given(whole=_WHOLE, data=st.data())
def test_damage_to_whole_files_never_raises(whole: tuple[str, bytes], data: st.DataObject) -> None:
    """Bytes changed, left out, or cut off at any place."""
    name, content = whole
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    with tempfile.TemporaryDirectory() as folder:
        found = look(Path(folder), name, bytes(damaged), _SMALL)

        assert found.is_usable or found.issues
        assert {"sent", "prepared"} == {path.name for path in Path(folder).iterdir()}
        if found.is_usable:
            open_prepared(Path(folder) / "prepared").labels("train")


@_FAST
@given(
    picture=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM"]),
    suffix=st.sampled_from(sorted(SUFFIXES)),
    data=st.data(),
)
def test_damage_to_pictures_never_raises(picture: str, suffix: str, data: st.DataObject) -> None:
    """A picture is read or told of by its row, whatever is wrong with its file."""
    from PIL import Image  # noqa: PLC0415  beside what it is used for

    content = bytearray(saved(Image.linear_gradient("L").resize((16, 16)).convert("RGB"), picture))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        found = look(Path(folder), "a.zip", zipped({**digit_files(5), f"digits/0/x{suffix}": bytes(content)}))

    assert found.is_usable
    assert 6 == found.num_rows + sum(issue.row == 6 for issue in found.issues)


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40).filter(
    lambda text: bool(text) and not text.isspace()
)
_LABEL = st.sampled_from(["", "a", "b", "Ä", "10", "9"])
_ROWS = st.lists(st.tuples(_TEXT, _LABEL), min_size=4, max_size=40)


def _in_order(data: Prepared, rows: list[tuple[str, str]]) -> None:
    """Both splits together are the rows, each in the order of the source."""
    names = {-1: "", **dict(enumerate(data.facts.classes))}
    found = {
        split: list(
            zip(data.texts(split), (names[label] for label in data.labels(split).tolist()), strict=True)
        )
        for split in SPLITS
    }
    assert sorted(rows) == sorted(found["train"] + found["test"])
    for part in found.values():
        left = iter(rows)
        assert all(any(row == other for other in left) for row in part)


@_SLOW
@given(rows=_ROWS)
def test_any_small_table_comes_through_whole(rows: list[tuple[str, str]]) -> None:
    """Rows, labels and order, from JSON lines, CSV and Parquet, with one digest."""
    lines = table(*(json.dumps({"text": text, "label": label}) for text, label in rows))
    columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    digests = set()
    for name, content in {"a.jsonl": lines, "a.parquet": parquet(columns)}.items():
        with tempfile.TemporaryDirectory() as folder:
            found = look(Path(folder), name, content)

            assert (True, len(rows)) == (found.is_usable, found.num_rows)
            assert sum(not label for _, label in rows) == found.num_unlabelled
            digests.add(found.sha256)
            _in_order(open_prepared(Path(folder) / "prepared"), rows)
    assert 1 == len(digests)


@_SLOW
@given(
    rows=st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
        min_size=4,
        max_size=30,
    )
)
def test_any_table_of_numbers_comes_through_whole(rows: list[list[float]]) -> None:
    """To the last bit of single precision."""
    with tempfile.TemporaryDirectory() as folder:
        look(Path(folder), "a.csv", table("u,v,w", *(",".join(map(repr, row)) for row in rows)))
        data = open_prepared(Path(folder) / "prepared")

        kept = sorted([*data.numbers("train").tolist(), *data.numbers("test").tolist()])
        assert sorted(rows) == kept


@_SLOW
@given(rows=_ROWS, name=st.sampled_from(["a.zip", "a.tar"]))
def test_the_digest_is_the_same_for_zip_and_tar(rows: list[tuple[str, str]], name: str) -> None:
    """And another when a row changes."""
    files = {f"{label or 'c'}/{at}.txt": text.encode() for at, (text, label) in enumerate(rows)}
    changed = dict(files)
    changed[next(iter(changed))] += b"!"
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        one, other = (
            look(Path(folder), name, pack(files)) for folder, pack in ((first, zipped), (second, tarred))
        )
    with tempfile.TemporaryDirectory() as third:
        odd = look(Path(third), name, zipped(changed))

    assert one == other
    assert odd.sha256 != one.sha256
