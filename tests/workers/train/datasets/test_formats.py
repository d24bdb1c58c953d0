"""Real data in every format comes through whole: rows, labels, splits, order."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tests.workers.train.datasets.making import (
    arrays,
    digit_files,
    digits,
    look,
    parquet,
    png,
    saved,
    table,
    tarred,
    zipped,
)
from workers.train.data import load_texts
from workers.train.datasets import Findings, Limits, Prepared, open_prepared
from workers.train.datasets.facts import SPLITS


def prepared(tmp_path: Path) -> Prepared:
    return open_prepared(tmp_path / "prepared")


def all_images(data: Prepared, side: int = 8) -> torch.Tensor:
    return torch.cat([data.images(split, side=side, channels=1) for split in SPLITS])


def by_class(found: Findings) -> dict[str, int]:
    return dict(zip(found.classes, found.class_counts, strict=True))


def test_class_folders_give_the_same_rows_and_digest_from_zip_and_every_tar(tmp_path: Path) -> None:
    """A common root, files of the desktop and other files are passed over; a folder's name is the class."""
    litter = {"digits/.DS_Store": b"x", "__MACOSX/digits/0/._0.png": b"y", "digits/README.md": b"z"}
    files = litter | digit_files(200)
    packed = {"a.zip": zipped(files)} | {
        f"a.tar.{how}": tarred(files, how) for how in ("", "gz", "bz2", "xz")
    }

    found = {}
    for number, (name, content) in enumerate(packed.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        found[name] = look(folder, name, content)

    first = found["a.zip"]
    assert (first.is_usable, "images", "IMAGE") == (True, first.kind, first.modality)
    assert [8, 8, 1] == first.shape
    labels = digits()[1][:200]
    assert {label: labels.count(label) for label in sorted(set(labels))} == by_class(first)
    assert 1 == len({one.sha256 for one in found.values()})
    assert all(one == first for one in found.values())


def test_pictures_keep_every_pixel_and_their_order(tmp_path: Path) -> None:
    """What is trained on is what was sent."""
    found = look(tmp_path, "a.zip", zipped(digit_files(300)))
    data = prepared(tmp_path)

    sent, names = digits()
    inputs = json.loads((tmp_path / "prepared" / "inputs.json").read_bytes())
    for at in range(300):
        assert np.array_equal(sent[at], np.asarray(Image.open(tmp_path / "prepared" / inputs[at]["image"])))
    places = {pixels.tobytes(): at for at, pixels in enumerate(sent[:300])}
    for split in SPLITS:
        rows = [places[picture.numpy().tobytes()] for picture in data.images(split, side=8, channels=1)]
        assert sorted(rows) == rows
        assert [names[at] for at in rows] == [found.classes[label] for label in data.labels(split).tolist()]
        assert found.splits[split] == len(rows)
    assert 10 <= found.splits["test"] <= 60
    assert "PNG" == Image.open(tmp_path / "prepared" / "preview.png").format


def test_train_and_test_folders_are_the_splits(tmp_path: Path) -> None:
    """Folders of splits above those of classes are taken as such."""
    pictures, labels = digits()
    files = {
        f"mine/{'train' if at % 4 else 'validation'}/{labels[at]}/{at}.png": png(pictures[at])
        for at in range(80)
    }

    found = look(tmp_path, "a.zip", zipped(files))

    assert {"train": 60, "test": 20} == found.splits
    assert [str(digit) for digit in range(10)] == found.classes


def test_a_folder_named_unlabelled_holds_rows_without_a_label(tmp_path: Path) -> None:
    """They are all for training."""
    pictures, _ = digits()
    files = digit_files(40) | {f"digits/unlabelled/{at}.png": png(pictures[at]) for at in range(100, 160)}

    found = look(tmp_path, "a.zip", zipped(files))
    data = prepared(tmp_path)

    assert (60, 10) == (found.num_unlabelled, len(found.classes))
    assert 60 == int((data.labels("train") == -1).sum())
    assert not (data.labels("test") == -1).any()


INDEXES = {
    "labels.csv": table("Filename,Class,Split", *(f"pics/{at:03}.png,c{at % 3},train" for at in range(30))),
    "labels.tsv": table("path\tlabel", *(f"{at:03}.png\tc{at % 3}" for at in range(30))),
    "pics/labels.jsonl": table(
        *(json.dumps({"file_name": f"{at:03}.png", "label": f"c{at % 3}"}) for at in range(30))
    ),
}


@pytest.mark.parametrize("name", INDEXES)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_index_says_what_pictures_show(
    name: str, pack: Callable[[dict[str, bytes]], bytes], tmp_path: Path
) -> None:
    """Wherever it lies, before or behind the pictures."""
    pictures, _ = digits()
    files = {f"pics/{at:03}.png": png(pictures[at]) for at in range(29)}

    found = look(tmp_path, "a.zip", pack({**files, name: INDEXES[name], "pics/029.png": png(pictures[29])}))

    assert {"c0": 10, "c1": 10, "c2": 10} == by_class(found)
    assert (30, []) == (found.num_rows, found.issues)
    assert torch.equal(
        torch.from_numpy(pictures[:30].astype(np.int64)).sum(), all_images(prepared(tmp_path)).long().sum()
    )


def test_an_empty_label_in_an_index_is_none(tmp_path: Path) -> None:
    """For those who learn from few labels."""
    files = {f"{at}.png": png(digits()[0][at]) for at in range(30)}
    index = table("file,label", *(f"{at}.png,{'ab'[at % 2] if at < 10 else ''}" for at in range(30)))

    found = look(tmp_path, "a.zip", zipped({**files, "index.csv": index}))

    assert ({"a": 5, "b": 5}, 20) == (by_class(found), found.num_unlabelled)


def test_pictures_of_every_mode_become_grey_or_coloured_with_eight_bits(tmp_path: Path) -> None:
    """Palettes, transparency, 16 bits, CMYK, animations and EXIF's turns, as a person would see them."""
    red = Image.new("RGB", (6, 4), (255, 0, 0))
    turned = Image.new("RGB", (6, 4), (0, 0, 255))
    exif = turned.getexif()
    exif[0x0112] = 6
    clear = Image.new("RGBA", (6, 4), (0, 255, 0, 0))
    deep = Image.fromarray(np.full((4, 6), 0x8000, np.uint16))
    files = {
        "a/palette.png": saved(red.convert("P", palette=Image.Palette.ADAPTIVE)),
        "a/clear.png": saved(clear),
        "a/deep.png": saved(deep),
        "a/cmyk.jpg": saved(red.convert("CMYK"), "JPEG"),
        "a/moving.gif": saved(red, "GIF", save_all=True, append_images=[clear]),
        "a/turned.jpg": saved(turned, "JPEG", exif=exif),
        "a/grey.pgm": saved(Image.new("L", (6, 4), 77), "PPM"),
        "a/large.png": saved(Image.new("L", (3000, 10), 5)),
        "a/plain.jpg": saved(red, "JPEG"),
    }

    found = look(tmp_path, "a.zip", zipped(files))
    folder = tmp_path / "prepared"
    kept = [Image.open(folder / row["image"]) for row in json.loads((folder / "inputs.json").read_bytes())]

    assert ([], None) == (found.issues[1:], found.shape)
    assert ["RGB", "RGB", "L", "RGB", "RGB", "RGB", "L", "L", "RGB"] == [image.mode for image in kept]
    colours = [image.getpixel((1, 1)) for image in kept]
    assert [(255, 0, 0), (255, 255, 255), 128] == colours[:3]
    assert (255, 0, 0) == colours[4]
    assert 77 == colours[6]
    assert ((4, 6), (512, 2)) == (kept[5].size, kept[7].size)
    assert files["a/plain.jpg"] == Path(kept[8].filename).read_bytes()


@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64"])
def test_npz_of_pictures(dtype: str, tmp_path: Path) -> None:
    """Bytes, floats in 0..1 and other integers."""
    pictures, labels = digits()
    x = pictures[:100].astype(dtype) / (255 if dtype == "float32" else 1)

    found = look(tmp_path, "a.npz", arrays(x=x.astype(dtype), y=np.array(labels[:100], np.int64)))

    assert (100, [8, 8, 1]) == (found.num_rows, found.shape)
    assert int(pictures[:100].astype(int).sum()) == int(all_images(prepared(tmp_path)).long().sum())


def test_npz_of_a_train_and_a_test_part(tmp_path: Path) -> None:
    """Coloured pictures, channels first and last; -1 is no label."""
    x = np.random.default_rng(0).integers(0, 255, (30, 3, 8, 8), np.uint8)
    y = np.arange(30) % 3
    y[3] = -1

    found = look(
        tmp_path, "a.npz", arrays(x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:, None])
    )

    assert ({"train": 20, "test": 10}, [8, 8, 3], 1) == (found.splits, found.shape, found.num_unlabelled)
    assert torch.equal(torch.from_numpy(x[20:]), prepared(tmp_path).images("test", side=8, channels=3))


def test_npz_of_numbers(tmp_path: Path) -> None:
    """Rows of features."""
    x = np.random.default_rng(0).normal(size=(50, 7))

    found = look(tmp_path, "a.npz", arrays(data=x, target=np.array(["a", "b"] * 25)))
    data = prepared(tmp_path)

    assert ("numbers", None, [7], ["a", "b"]) == (found.kind, found.modality, found.shape, found.classes)
    assert 50 == len(data.numbers("train")) + len(data.numbers("test"))
    assert not (tmp_path / "prepared" / "inputs.json").exists()


def _news() -> list[tuple[str, str]]:
    news = load_texts("bbc_news")
    return [(text, news.classes[label]) for text, label in news.train[:120]]


def _news_csv() -> bytes:
    quoted = ['"{}",{}'.format(text.replace('"', '""'), label) for text, label in _news()]
    return ("Text,Category\r\n" + "\r\n".join(quoted)).encode("utf-8-sig")


NEWS = {
    "a.csv": _news_csv,
    "a.jsonl": lambda: table(*(json.dumps({"text": text, "label": label}) for text, label in _news())),
    "a.parquet": lambda: parquet(
        {"text": [text for text, _ in _news()], "label": [label for _, label in _news()]}
    ),
    "a.zip": lambda: zipped(
        {f"news/{name}/{at}.txt": text.encode() for at, (text, name) in enumerate(_news())}
    ),
    "b.zip": lambda: zipped({"news.csv": _news_csv()}),
}  # fmt: skip


@pytest.mark.parametrize("name", NEWS)
def test_labelled_texts_come_through_whole(name: str, tmp_path: Path) -> None:
    """News with quotes, commas and ends of lines in them; the digest is one for all formats."""
    found = look(tmp_path, name.replace("b.", "a."), NEWS[name]())
    data = prepared(tmp_path)

    sent = _news()
    assert ("texts", "TEXT", 120, []) == (found.kind, found.modality, found.num_rows, found.issues)
    assert sum(len(text) for text, _ in sent) == found.num_tokens
    assert {text for text, _ in sent} == {*data.texts("train"), *data.texts("test")}
    names = [found.classes[label] for label in data.labels("train").tolist()]
    assert set(zip(data.texts("train"), names, strict=True)) <= set(sent)
    inputs = json.loads((tmp_path / "prepared" / "inputs.json").read_bytes())
    assert [{"text": text} for text, _ in sent] == inputs
    preview = json.loads((tmp_path / "prepared" / "preview.json").read_bytes())
    assert (sent[0][0][:199] + "…", sent[0][1]) == (preview["rows"][0]["text"], preview["rows"][0]["label"])
    reference = tmp_path / "reference"
    reference.mkdir()
    assert look(reference, "a.csv", _news_csv()).sha256 == found.sha256


def test_tab_separated_texts_may_hold_quotes(tmp_path: Path) -> None:
    """A quote that isn't closed is part of the text."""
    rows = [f'"So it began\t{"ab"[at % 2]}' for at in range(6)] + ['"quoted ""twice"""\ta']

    found = look(tmp_path, "a.tsv", table("sentence\tlabel", *rows))

    assert (7, []) == (found.num_rows, found.issues)
    assert 'quoted "twice"' in prepared(tmp_path).texts("train") + prepared(tmp_path).texts("test")


def test_pairs_tagged_sentences_and_numbers(tmp_path: Path) -> None:
    """The kinds of trainers of sequences, and of tables."""
    pairs = look(tmp_path, "a.csv", table("source,target", *(f"word{at},W O R D {at}" for at in range(9))))
    assert ("pairs", 9) == (pairs.kind, pairs.num_rows)
    assert ("word0", "W O R D 0") in prepared(tmp_path).pairs("train") + prepared(tmp_path).pairs("test")

    rows = [{"tokens": ["A", "dog", str(at)], "ner_tags": [0, 1, 1]} for at in range(9)]
    second = tmp_path / "second"
    second.mkdir()
    tagged = look(second, "a.jsonl", table(*map(json.dumps, rows)))
    assert ("tagged", {"0": 9, "1": 18}, 27) == (tagged.kind, by_class(tagged), tagged.num_tokens)
    assert (["A", "dog", "0"], ["0", "1", "1"]) in prepared(second).tagged("train") + prepared(second).tagged(
        "test"
    )

    third = tmp_path / "third"
    third.mkdir()
    numbers = look(third, "a.csv", table("id;width;height;label", *(f"{at};{at / 2};3;a" for at in range(9))))
    assert ("numbers", [2]) == (numbers.kind, numbers.shape)
    assert 9 == len(prepared(third).numbers("train")) + len(prepared(third).numbers("test"))


def test_numbers_without_a_header(tmp_path: Path) -> None:
    """The first line is a row like the others."""
    found = look(tmp_path, "a.csv", table(*(f"{at},{at * 2}" for at in range(9))))

    assert ("numbers", 9, [2]) == (found.kind, found.num_rows, found.shape)


def test_parquet_of_pictures_with_bytes_beside_their_paths(tmp_path: Path) -> None:
    """As data sets of pictures usually are in Parquet; lists of words are sentences with tags."""
    pictures, labels = digits()
    images = [{"bytes": png(pictures[at]), "path": None} for at in range(40)]
    content = parquet({"image": images, "label": [int(label) for label in labels[:40]]}, row_group_size=7)

    found = look(tmp_path, "a.parquet", content)

    assert ("images", 40, [8, 8, 1]) == (found.kind, found.num_rows, found.shape)
    assert int(pictures[:40].astype(int).sum()) == int(all_images(prepared(tmp_path)).long().sum())

    second = tmp_path / "second"
    second.mkdir()
    words = pa.array([["a", "b"]] * 6)
    assert "tagged" == look(second, "a.parquet", parquet({"tokens": words, "tags": words})).kind


def test_running_text_is_given_again_by_its_rows(tmp_path: Path) -> None:
    """Paragraphs in their order; the end of the text is for tests."""
    text = "".join(f"Line {at} of a play,\nspoken by {at}.\n\n" for at in range(400))

    found = look(tmp_path, "a.txt", text.replace("\n", "\r\n").encode("utf-8-sig"))
    data = prepared(tmp_path)

    assert (True, 400) == (found.is_running_text, found.num_rows)
    assert text == "".join(data.texts("train")) + "".join(data.texts("test"))
    assert 0.85 < len("".join(data.texts("train"))) / len(text) < 0.95


def test_an_archive_of_texts_without_classes_is_running_text(tmp_path: Path) -> None:
    """Books in one folder, one after the other."""
    books = {f"books/{name}.txt": (f"The {name}.\n\n" * 50).encode() for name in ("first", "second")}

    found = look(tmp_path, "a.tar", tarred(books))

    assert ("texts", True, []) == (found.kind, found.is_running_text, found.classes)
    whole = "".join(prepared(tmp_path).texts("train")) + "".join(prepared(tmp_path).texts("test"))
    assert "The first." in whole[:11]
    assert whole.endswith("The second.\n\n")


def test_tables_of_an_archive_are_splits_by_their_names(tmp_path: Path) -> None:
    """And their issues name them."""
    rows = [f"text {at},{'ab'[at % 2]}" for at in range(20)]
    content = zipped(
        {"d/train.csv": table("text,label", *rows[:15]), "d/test.csv": table("text,label", *rows[15:], "x")}
    )

    found = look(tmp_path, "a.zip", content)

    assert {"train": 15, "test": 5} == found.splits
    assert '"d/test.csv": has 1 fields where the header has 2' == found.issues[0].message


def test_zip64_and_names_of_gnu_and_pax(tmp_path: Path) -> None:
    """Long names and large numbers, as the usual programs write them."""
    deep = "digits/" + "/".join(["folder" * 10] * 4) + "/"
    files = {f"{deep}{name.removeprefix('digits/')}": content for name, content in digit_files(40).items()}
    for number, how in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=how) as archive:
            for name, content in files.items():
                header = tarfile.TarInfo(name)
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
        folder = tmp_path / str(number)
        folder.mkdir()

        found = look(folder, "a.tar", out.getvalue())

        assert ([str(digit) for digit in range(10)], []) == (found.classes, found.issues)


def test_limits_are_told(tmp_path: Path) -> None:
    """Too many rows, classes or bytes make a set unusable and say which limit."""
    content = table("text,label", *(f"text {at},class {at % 30}" for at in range(300)))

    for number, (limits, words) in enumerate({
        Limits(max_rows=200): "It has more than 200 rows.",
        Limits(max_classes=20): "It has too many classes: is the label column the right one?",
        Limits(max_unpacked_bytes=1000): "It unpacks to more than the 0 MiB that are allowed for its size.",
    }.items()):  # fmt: skip
        folder = tmp_path / str(number)
        folder.mkdir()
        found = look(folder, "a.csv", content, limits)
        assert (False, words) == (found.is_usable, found.issues[0].message)


def test_all_files_of_an_archive_count_together(tmp_path: Path) -> None:
    """Many small ones are as large as a large one."""
    files = {f"a/{at}.txt": bytes(100_000) for at in range(20)}

    found = look(tmp_path, "a.tar.gz", tarred(files, "gz"), Limits(free_unpacked_bytes=1 << 20))

    assert "It unpacks to more than the 1 MiB that are allowed for its size." == found.issues[0].message


def test_the_facts_file_says_what_was_found(tmp_path: Path) -> None:
    """Whoever has the folder knows what is in it."""
    found = look(tmp_path, "a.zip", zipped(digit_files(30)))

    kept = msgspec.json.decode((tmp_path / "prepared" / "dataset.json").read_bytes(), type=Findings)

    assert found == kept == prepared(tmp_path).facts
