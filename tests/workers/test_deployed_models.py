"""Deployed models in both lanes of a worker: loaded for their owner, and alone where processes have died."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bus import subjects
from bus.envelope import Message
from bus.memory import MemoryBus
from bus.messages import DeployedModel, PipelinesAnnounced, PreloadModel
from bus.objects import ObjectStore
from bus.topology import INTERACTIVE, JOBS, embed_interactive
from tests.workers.deployed import deploy
from tests.workers.rig import POOL, Caller, JobServer, RunningWorker, rows, soon
from tests.workers.toys import StartEngine, ToyPipeline, rows_of
from workers.embed.engine import EngineSettings
from workers.embed.hosting import Pipeline
from workers.embed.items import Matrix
from workers.embed.models.files import ModelFiles
from workers.embed.models.shelf import ModelShelf
from workers.embed.models.trained import open_trained
from workers.embed.sacrifice.engine import SacrificialEngine
from workers.embed.worker import _LOADER
from workers.nets.manifest import load_artifact
from workers.towhee_door import TowheeDoor

TEXTS = ["the lion lies in green grass", "lion", "the lion sleeps"]
MAX_PIXELS = 1_000_000
DIMENSION = 7


@pytest.fixture
async def model(objects: ObjectStore, tmp_path: Path) -> DeployedModel:
    return await deploy(objects, tmp_path / "artifact")


@pytest.fixture
def toy(door: TowheeDoor) -> ToyPipeline:
    return ToyPipeline(door)


@pytest.fixture
async def caller(bus: MemoryBus) -> Caller:
    caller = Caller(bus)
    await caller.listen()
    return caller


@pytest.fixture
async def server(bus: MemoryBus, objects: ObjectStore, model: DeployedModel) -> AsyncIterator[JobServer]:
    server = JobServer(bus, objects, pipeline="model/mine")
    server.model = model
    await server.start()
    yield server
    await server.close()


class ModelWorker(RunningWorker):
    """A worker that hosts a toy and serves deployed models."""

    def __init__(
        self,
        bus: MemoryBus,
        start_engine: StartEngine,
        toy: ToyPipeline,
        objects: ObjectStore,
        place: Path,
    ) -> None:
        def load(folder: Path, dimension: int) -> Pipeline:
            return open_trained(folder, dimension=dimension, max_pixels=MAX_PIXELS)

        self.pipelines: dict[str, Pipeline] = {"toy": toy}
        self.folder = place / "models"
        self.models = ModelShelf(ModelFiles(objects, self.folder, max_bytes=1 << 30), load, self.pipelines)
        alone = SacrificialEngine(
            _LOADER, {"max_pixels": MAX_PIXELS, "models_folder": str(self.folder.absolute())}
        )
        engine = start_engine(self.pipelines, EngineSettings())
        super().__init__(bus, engine, objects, models=self.models, alone=alone)

    async def stop(self) -> None:
        await super().stop()
        await self.models.close()


StartWorker = Callable[[], ModelWorker]


@pytest.fixture
def start_worker(
    bus: MemoryBus, start_engine: StartEngine, toy: ToyPipeline, objects: ObjectStore, tmp_path: Path
) -> StartWorker:
    return partial(ModelWorker, bus, start_engine, toy, objects, tmp_path)


@pytest.fixture
async def worker(start_worker: StartWorker) -> AsyncIterator[ModelWorker]:
    running = start_worker()
    yield running
    await running.stop()


def expected(model: DeployedModel, tmp_path: Path, texts: Sequence[str] = TEXTS) -> Matrix:
    vectors = load_artifact(tmp_path / "objects" / model.prefix).embed(list(texts))
    scaled: Matrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


async def test_a_call_loads_the_model_and_gets_its_vectors_while_others_go_on(
    worker: ModelWorker, caller: Caller, model: DeployedModel, bus: MemoryBus, tmp_path: Path
) -> None:
    began = time.monotonic()
    await caller.ask(TEXTS, pipeline="model/mine", model=model)
    (answer,) = await caller.answers(3)
    took_s = time.monotonic() - began
    caller.inbox.clear()
    await caller.ask(["hello"], request_id="request-2")
    (toys,) = await caller.answers(1)

    np.testing.assert_allclose(expected(model, tmp_path), rows(answer.vectors, DIMENSION), atol=1e-5)
    assert [6, 1, 3] == answer.tokens
    assert took_s < 5
    assert rows_of(["hello"]).tolist() == rows(toys.vectors, 3).tolist()
    await soon(lambda: bus.count(INTERACTIVE) == 0)


async def test_two_models_of_one_name_are_told_apart(
    worker: ModelWorker, caller: Caller, objects: ObjectStore, model: DeployedModel, tmp_path: Path
) -> None:
    """Another owner's, or the version before: what embeds is the model, not its name."""
    other = await deploy(objects, tmp_path / "artifact", seed=1)
    for number, asked in enumerate((model, other, model)):
        await caller.ask(["lion"], pipeline="model/mine", model=asked, request_id=f"request-{number}")

    answers = {answer.request_id: rows(answer.vectors, DIMENSION) for answer in await caller.answers(3)}

    one, two = expected(model, tmp_path, ["lion"]), expected(other, tmp_path, ["lion"])
    for vector, number in ((one, 0), (two, 1), (one, 2)):
        np.testing.assert_allclose(vector, answers[f"request-{number}"], atol=1e-5)
    assert not np.allclose(one, two)


async def test_somebody_elses_model_and_none_are_refused_in_the_same_words(
    worker: ModelWorker, caller: Caller, model: DeployedModel, bus: MemoryBus
) -> None:
    stranger = msgspec.structs.replace(model, owner_id="owner-2")
    nowhere = msgspec.structs.replace(model, model_id="none")
    said = []
    for asked in (stranger, nowhere):
        caller.inbox.clear()
        await caller.ask(["lion"], pipeline="model/mine", model=asked)
        refusal = await caller.refusal()
        said.append((refusal.code, refusal.message))
    assert [("NOT_FOUND", "There is no such model.")] * 2 == said
    await soon(lambda: bus.count(INTERACTIVE) == 0)


async def test_a_worker_that_serves_no_models_says_so(
    bus: MemoryBus,
    start_engine: StartEngine,
    toy: ToyPipeline,
    objects: ObjectStore,
    caller: Caller,
    model: DeployedModel,
) -> None:
    plain = RunningWorker(bus, start_engine({"toy": toy}, EngineSettings()), objects)
    await caller.ask(["lion"], pipeline="model/mine", model=model)
    assert "PIPELINE_UNAVAILABLE" == (await caller.refusal()).code
    await plain.stop()


async def test_a_job_is_embedded_by_the_model_it_names(
    worker: ModelWorker,
    server: JobServer,
    objects: ObjectStore,
    model: DeployedModel,
    bus: MemoryBus,
    tmp_path: Path,
) -> None:
    await server.create("job-1", TEXTS, chunk_size=2)

    chunks = await server.wait_for_chunks("job-1", 2)

    vectors = np.concatenate([rows(await objects.get(chunk.vectors_key), DIMENSION) for chunk in chunks])
    np.testing.assert_allclose(expected(model, tmp_path), vectors, atol=1e-5)
    await soon(lambda: bus.count(JOBS) == 0)


async def test_a_job_of_a_damaged_model_fails_at_once_with_the_reason(
    worker: ModelWorker, server: JobServer, objects: ObjectStore, model: DeployedModel, bus: MemoryBus
) -> None:
    await objects.put(f"{model.prefix}/weights.safetensors", b"damaged")
    await server.create("job-1", TEXTS, chunk_size=2)

    failure = await server.wait_for_failure()

    assert ("INTERNAL", "The model's files are damaged.") == (failure.code, failure.message)
    await soon(lambda: bus.count(JOBS) == 0)


async def test_what_processes_died_of_is_embedded_by_the_model_alone(
    worker: ModelWorker,
    server: JobServer,
    objects: ObjectStore,
    model: DeployedModel,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The worker itself does not even load it: that may be what ended the others."""
    server.num_lost = 2
    await server.create("job-1", TEXTS, chunk_size=3)

    (chunk,) = await server.wait_for_chunks("job-1", 1, within_s=60)

    vectors = rows(await objects.get(chunk.vectors_key), DIMENSION)
    np.testing.assert_allclose(expected(model, tmp_path), vectors, atol=1e-5)
    assert "is worked on alone" in caplog.text
    assert ["toy"] == list(worker.pipelines)


async def test_a_call_that_was_delivered_three_times_is_answered_by_the_model_alone(
    bus: MemoryBus, caller: Caller, start_worker: StartWorker, model: DeployedModel, tmp_path: Path
) -> None:
    stranger = msgspec.structs.replace(model, owner_id="owner-2")
    for number, asked in enumerate((model, stranger)):
        await caller.ask(["lion"], pipeline="model/mine", model=asked, request_id=f"request-{number}")
    puller = bus.puller(embed_interactive(POOL))
    for _ in range(2):
        for delivery in await puller.fetch(limit=2, wait_s=1):
            await delivery.nak()
    await puller.close()

    worker = start_worker()
    (answer,) = await caller.answers(1, within_s=60)
    refusal = await caller.refusal()
    await worker.stop()

    np.testing.assert_allclose(
        expected(model, tmp_path, ["lion"]), rows(answer.vectors, DIMENSION), atol=1e-5
    )
    assert ("request-1", "NOT_FOUND") == (refusal.request_id, refusal.code)
    assert ["toy"] == list(worker.pipelines)


async def test_a_model_that_is_deployed_is_loaded_before_it_is_asked_for_in_its_own_pool(
    worker: ModelWorker, bus: MemoryBus, objects: ObjectStore, model: DeployedModel, tmp_path: Path
) -> None:
    elsewhere = await deploy(objects, tmp_path / "artifact", seed=1)
    await bus.tell(subjects.MODEL_PRELOAD, PreloadModel(pool="another", model=elsewhere))
    await bus.tell(subjects.MODEL_PRELOAD, PreloadModel(pool=POOL, model=model))

    (name,) = await soon(lambda: [name for name in worker.pipelines if name != "toy"])

    assert name.startswith(model.model_id)


async def test_the_pool_whose_models_are_served_is_announced(
    bus: MemoryBus, start_worker: StartWorker
) -> None:
    heard: list[PipelinesAnnounced] = []

    async def hear(message: Message) -> None:
        assert isinstance(message, PipelinesAnnounced)
        heard.append(message)

    await bus.follow(subjects.PIPELINES_ANNOUNCED, hear)
    worker = start_worker()
    await soon(lambda: heard)
    await worker.stop()

    assert {POOL} == {message.models_pool for message in heard}
