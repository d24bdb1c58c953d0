"""A trained model as a pipeline gives what its trainer gave, at unit length, and takes nothing harmful."""

import io
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.workers.deployed import KINDS, make_artifact
from tests.workers.train.scenarios import autoencoder
from workers.embed.hosting import Pipeline
from workers.embed.items import Matrix, ModelRefused, Prepared, Refusal
from workers.embed.models.trained import open_trained
from workers.nets.manifest import load_artifact
from workers.train.export import export

MAX_PIXELS = 1_000_000
TEXT_KINDS = [kind for kind in KINDS if "pictures" not in kind and "numbers" not in kind]
TEXTS = [
    "the lion lies in green grass",
    "lion",
    "the lion sleeps and the lion sleeps and the lion sleeps",
    "an unknown lion",
    "grass grass grass grass",
]


def open_model(folder: Path, *, max_pixels: int = MAX_PIXELS) -> Pipeline:
    dimension = json.loads((folder / "manifest.json").read_text())["dimension"]
    return open_trained(folder, dimension=dimension, max_pixels=max_pixels)


def own_vectors(folder: Path, items: Sequence[Any]) -> Matrix:
    """What the artifact itself gives, at unit length."""
    vectors = load_artifact(folder).embed(items)
    scaled: Matrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def embed_texts(pipeline: Pipeline, texts: Sequence[str]) -> Matrix:
    return pipeline.run([payload_of(item) for item in pipeline.prepare_texts(texts)])


def payload_of(prepared: Prepared | Refusal) -> object:
    assert isinstance(prepared, Prepared), prepared
    return prepared.payload


def as_png(pixels: np.ndarray[Any, Any], *, mode: str | None = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG") if mode else Image.fromarray(pixels).save(
        file, "PNG"
    )
    return file.getvalue()


def pictures(*shape: int) -> list[np.ndarray[Any, Any]]:
    return list(np.random.default_rng(3).integers(0, 256, (4, *shape), np.uint8))


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_vectors_of_texts_are_the_trainers_own_whatever_shares_the_batch(kind: str, tmp_path: Path) -> None:
    make_artifact(tmp_path, kind)
    pipeline = open_model(tmp_path)

    together = embed_texts(pipeline, TEXTS)

    np.testing.assert_allclose(own_vectors(tmp_path, TEXTS), together, atol=1e-5)
    alone = np.concatenate([embed_texts(pipeline, [text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(1, np.linalg.norm(together, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("grey pictures", (28, 28)),
        ("grey pictures", (40, 31, 3)),
        ("coloured pictures", (32, 32, 3)),
        ("coloured pictures", (57, 90, 3)),
        ("coloured pictures", (20, 20)),
    ],
)
def test_vectors_of_pictures_are_the_trainers_own(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    make_artifact(tmp_path, kind)
    pipeline = open_model(tmp_path)
    items = pictures(*shape)

    prepared = [pipeline.prepare_bytes(as_png(item), "image/png") for item in items]

    vectors = pipeline.run([payload_of(item) for item in prepared])
    np.testing.assert_allclose(own_vectors(tmp_path, items), vectors, atol=1e-5)


def test_a_real_trainers_export_gives_the_vectors_of_its_own_encoder(tmp_path: Path) -> None:
    trainer = autoencoder.vae(tmp_path / "run")
    trainer.train()
    export(trainer, tmp_path / "artifact")  # type: ignore[arg-type]
    pipeline = open_model(tmp_path / "artifact")
    items = pictures(8, 8)

    prepared = [pipeline.prepare_bytes(as_png(item), "image/png") for item in items]

    x_BCHW = torch.from_numpy(np.stack(items))[:, None].float() / 255
    with torch.no_grad():
        expected = torch.nn.functional.normalize(trainer.encoder().net.eval().encode(x_BCHW)).numpy()  # type: ignore[attr-defined]
    np.testing.assert_allclose(expected, pipeline.run([payload_of(item) for item in prepared]), atol=1e-5)


def test_transparency_is_laid_on_white_and_a_picture_turned_upright(tmp_path: Path) -> None:
    make_artifact(tmp_path, "coloured pictures")
    pipeline = open_model(tmp_path)
    clear = np.zeros((32, 32, 4), np.uint8)
    turned = Image.fromarray(pictures(32, 32, 3)[0])
    exif = Image.Exif()
    exif[0x0112] = 3
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)

    given = [pipeline.prepare_bytes(data, "image/png") for data in (as_png(clear), file.getvalue())]

    white, upright = np.full((32, 32, 3), 255, np.uint8), np.asarray(turned.rotate(180))
    expected = own_vectors(tmp_path, [white, upright])
    np.testing.assert_allclose(expected, pipeline.run([payload_of(item) for item in given]), atol=1e-5)


def test_a_picture_that_claims_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    make_artifact(tmp_path, "grey pictures")
    pipeline = open_model(tmp_path)
    bomb = bytearray(as_png(pictures(28, 28)[0]))
    bomb[16:24] = struct.pack(">II", 100_000, 100_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))

    refused = [
        pipeline.prepare_bytes(bytes(bomb), "image/png"),
        pipeline.prepare_bytes(b"no picture", "image/png"),
        pipeline.prepare_bytes(b"text", "text/plain"),
        *pipeline.prepare_texts(["text"]),
    ]

    assert ["PAYLOAD_TOO_LARGE", "INVALID_INPUT", "UNSUPPORTED_MEDIA", "UNSUPPORTED_MEDIA"] == [
        refusal.code for refusal in refused if isinstance(refusal, Refusal)
    ]


def test_a_text_file_is_text_and_what_is_none_is_refused_alone(tmp_path: Path) -> None:
    make_artifact(tmp_path, "pooled words")
    pipeline = open_model(tmp_path)

    file = pipeline.prepare_bytes(b"the lion", "text/plain")
    empty, long, good = pipeline.prepare_texts([" ", "lion " * 200_001, "lion " * 9])

    assert [2, 3] == payload_of(file)
    assert isinstance(empty, Refusal)
    assert isinstance(long, Refusal)
    assert isinstance(good, Prepared)
    assert ("INVALID_INPUT", "PAYLOAD_TOO_LARGE") == (empty.code, long.code)
    assert (6, 6, True) == (good.length, good.tokens, good.truncated)
    assert isinstance(pipeline.prepare_bytes(b"\xff", "text/plain"), Refusal)


def test_a_row_without_a_direction_is_not_finite(tmp_path: Path) -> None:
    """The engine refuses such an input alone; a vector of zeros would be an answer of no length."""
    make_artifact(tmp_path, "pooled words")
    weights = load_file(tmp_path / "weights.safetensors")
    save_file(
        {name: torch.zeros_like(tensor) for name, tensor in weights.items()}, tmp_path / "weights.safetensors"
    )
    sign_again(tmp_path)

    row = embed_texts(open_model(tmp_path), ["lion"])

    assert np.isnan(row).all()


def sign_again(folder: Path) -> None:
    """Bring the manifest to what the files are."""
    import hashlib  # noqa: PLC0415

    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest["files"]
    }
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))


def test_rows_of_numbers_are_nothing_to_embed(tmp_path: Path) -> None:
    make_artifact(tmp_path, "rows of numbers")

    with pytest.raises(ModelRefused) as refused:
        open_model(tmp_path)

    assert "UNSUPPORTED_MEDIA" == refused.value.code


@pytest.mark.parametrize("what", ["weights.safetensors", "tokenizer.json", "manifest.json"])
def test_damaged_files_are_refused_without_a_word_about_them(what: str, tmp_path: Path) -> None:
    make_artifact(tmp_path, "pooled words")
    raw = (tmp_path / what).read_bytes()
    (tmp_path / what).write_bytes(raw[:-9] + b"something")

    with pytest.raises(ModelRefused) as refused:
        open_trained(tmp_path, dimension=7, max_pixels=MAX_PIXELS)

    assert ("INTERNAL", "The model's files are damaged.") == (refused.value.code, refused.value.message)


def test_a_model_of_another_dimension_than_was_deployed_is_refused(tmp_path: Path) -> None:
    make_artifact(tmp_path, "pooled words")
    with pytest.raises(ModelRefused, match="damaged"):
        open_trained(tmp_path, dimension=8, max_pixels=MAX_PIXELS)
