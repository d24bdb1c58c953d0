"""Models that answer as pipelines: to their owner, by version, without a call that fails in between."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import msgspec
import numpy as np
import pytest

from bus import subjects
from bus.envelope import Message
from bus.memory import MemoryBus
from bus.messages import (
    ClaimJob,
    EmbedNow,
    JobClaimed,
    PipelinesAnnounced,
    PreloadModel,
    TextInput,
    VectorsComputed,
)
from bus.objects import ObjectStore
from server.auth.principal import Principal, Scope
from server.backlog import Backlog
from server.claims import Claims
from server.database import Database
from server.embedding_jobs import EmbeddingJobs
from server.embeddings import Embeddings, EmbedLimits
from server.errors import Busy, Conflict, Forbidden, InvalidInput, NotFound, PipelineUnavailable
from server.ids import new_id
from server.job_inputs import CreateJobRequest, JobInputs
from server.pipelines import Pipelines
from server.records import EmbedRequest, JobState
from server.selection import Selector
from server.usage import UsageMeter
from tests.support.embedding import TEXT_PIPELINE, EmbedWorker, MakePrincipal, until, vector_of
from tests.support.jobs import Counted
from tests.support.training_rows import House

LIMITS = EmbedLimits(timeout_s=10.0)


class ModelWorker(EmbedWorker):
    """Embeds with deployed models, too: each gives vectors of its own."""

    async def announce(self, *, leaving: bool = False) -> None:
        """Say what it hosts, and where it loads models."""
        announced = PipelinesAnnounced(
            worker_id="w1", pipelines=list(self.pipelines), leaving=leaving, models_pool="default"
        )
        await self.bus.tell(subjects.PIPELINES_ANNOUNCED, announced)

    def answers(self, command: EmbedNow) -> list[VectorsComputed]:
        """What it says to a command."""
        model = command.model
        if model is None:
            return super().answers(command)
        texts = [item.text for item in command.inputs if isinstance(item, TextInput)]
        rows = [vector_of(model.model_id + text, model.dimension) for text in texts]
        answer = VectorsComputed(
            request_id=command.request_id,
            first_index=0,
            count=len(rows),
            dimension=model.dimension,
            vectors=np.asarray(rows, dtype="<f4").tobytes(),
            truncated=[False] * len(rows),
            tokens=[1] * len(rows),
        )
        return [answer]


@pytest.fixture
async def model_worker(bus: MemoryBus, registry: Pipelines) -> AsyncIterator[ModelWorker]:
    """A worker that loads deployed models, and that this server knows of."""
    worker = ModelWorker(bus, [TEXT_PIPELINE])
    await worker.start()

    async def is_known() -> bool:
        return registry.find_models_pool() is not None

    await until(is_known)
    yield worker
    await worker.close()


@pytest.fixture
async def replica(
    bus: MemoryBus, house: House, registry: Pipelines, usage: UsageMeter
) -> AsyncIterator[Embeddings]:
    """The `embed` call of a server where models are deployed."""
    selector = Selector(registry, house.deployments)
    embeddings = Embeddings(bus, house.uploads, selector, usage, replica_id="r1", limits=LIMITS)
    await embeddings.start()
    yield embeddings
    await embeddings.close()


@pytest.fixture
def embedding_jobs(
    database: Database, objects: ObjectStore, house: House, registry: Pipelines, usage: UsageMeter
) -> EmbeddingJobs:
    """Embedding jobs of the same server."""
    selector = Selector(registry, house.deployments)
    inputs = JobInputs(database, objects, house.uploads, selector, max_inputs=100, max_text_bytes=1000)
    return EmbeddingJobs(database, objects, inputs, usage, backlog=house.backlog, wake=lambda: None)


async def _first(replica: Embeddings, owner: Principal, text: str = "a", name: str = "model/mine") -> object:
    result = await replica.embed(owner, EmbedRequest(texts=[text], pipeline=name))
    return result.vectors[0].tolist()


def _expected(model_id: UUID, text: str = "a") -> object:
    return vector_of(f"{model_id}{text}", 8).tolist()


async def test_a_deployed_model_is_a_pipeline_of_its_owner(
    house: House, principal: Principal, model_worker: ModelWorker
) -> None:
    model_id = await house.model(principal)

    model = await house.deployments.deploy(principal, model_id, "mine")

    pipeline = model.pipeline
    assert pipeline is not None
    assert ("model/mine", "1", 8, "default", True, None) == (
        pipeline.name,
        pipeline.version,
        pipeline.dimension,
        pipeline.pool,
        pipeline.available,
        pipeline.reason,
    )
    assert pipeline == (await house.models.get(principal.user_id, model_id)).pipeline
    assert [pipeline] == await house.deployments.find_many(principal.user_id, [pipeline.id, new_id()])
    assert [pipeline] == await house.deployments.list_available(principal.user_id)


async def test_workers_are_told_to_load_what_was_deployed(
    house: House, principal: Principal, model_worker: ModelWorker, bus: MemoryBus
) -> None:
    told: asyncio.Queue[Message] = asyncio.Queue()
    await bus.follow(subjects.MODEL_PRELOAD, told.put)
    model_id = await house.model(principal)

    model = await house.deployments.deploy(principal, model_id, "mine")

    message = await asyncio.wait_for(told.get(), 5)
    assert isinstance(message, PreloadModel)
    assert model.pipeline is not None
    assert ("default", model.pipeline.model) == (message.pool, message.model)
    assert (str(model_id), str(principal.user_id), f"models/{model_id}/encoder", "ab" * 32) == (
        message.model.model_id,
        message.model.owner_id,
        message.model.prefix,
        message.model.manifest_sha256,
    )


@pytest.mark.parametrize("name", ["", "Mine", "-mine", ".x", "a/b", "a b", "x" * 64, "mine\n", "ä"])
async def test_a_name_that_can_be_no_pipeline_is_refused(
    house: House, principal: Principal, name: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await house.deployments.deploy(principal, new_id(), name)

    assert ("name",) == refused.value.path


async def test_what_embeds_neither_texts_nor_images_is_not_deployed(
    house: House, principal: Principal
) -> None:
    for modality in (None, "AUDIO"):
        with pytest.raises(InvalidInput) as refused:
            await house.deployments.deploy(principal, await house.model(principal, modality=modality), "mine")
        assert ("model_id",) == refused.value.path


async def test_a_key_without_the_scope_deploys_nothing(house: House, make_principal: MakePrincipal) -> None:
    key = await make_principal(Scope.EMBED, Scope.READ)

    with pytest.raises(Forbidden):
        await house.deployments.deploy(key, new_id(), "mine")
    with pytest.raises(Forbidden):
        await house.deployments.retire(key, new_id())


async def test_a_name_in_use_gets_a_new_version_and_rolls_back_with_another(
    house: House, principal: Principal
) -> None:
    old, new = await house.model(principal), await house.model(principal)
    versions = []
    for model_id in (old, new, new, old):
        model = await house.deployments.deploy(principal, model_id, "mine")
        assert model.pipeline is not None
        versions.append(model.pipeline.version)

    # Deploying again what is deployed changes nothing.
    assert ["1", "2", "2", "3"] == versions
    assert None is (await house.models.get(principal.user_id, new)).pipeline


async def test_a_second_name_of_a_model_retires_its_first(house: House, principal: Principal) -> None:
    model_id = await house.model(principal)
    await house.deployments.deploy(principal, model_id, "mine")

    model = await house.deployments.deploy(principal, model_id, "other")

    assert model.pipeline is not None
    assert "model/other" == model.pipeline.name
    first = await house.deployments.find_pipeline(principal.user_id, "model/mine")
    assert first is not None
    assert (False, "It was retired.") == (first.available, first.reason)


async def test_many_deployments_at_once_leave_one_model_a_name(house: House, principal: Principal) -> None:
    models = [await house.model(principal) for _ in range(4)]

    await asyncio.gather(
        *(
            house.deployments.deploy(principal, model_id, name)
            for _ in range(4)
            for model_id in models
            for name in ("mine", "other")
        )
    )

    rows = await house.db.fetch("SELECT name, model_id FROM deployments WHERE retired_at IS NULL")
    assert len(rows) == len({row["name"] for row in rows}) == len({row["model_id"] for row in rows})


async def test_a_retired_model_can_not_be_used_and_one_that_is_not_deployed_stays_so(
    house: House, principal: Principal, replica: Embeddings, model_worker: ModelWorker
) -> None:
    model_id = await house.model(principal)
    await house.deployments.deploy(principal, model_id, "mine")

    for _ in range(2):
        assert None is (await house.deployments.retire(principal, model_id)).pipeline

    with pytest.raises(PipelineUnavailable, match="retired"):
        await _first(replica, principal)
    again = await house.deployments.deploy(principal, model_id, "mine")
    assert again.pipeline is not None
    assert "2" == again.pipeline.version
    assert _expected(model_id) == await _first(replica, principal)


async def test_without_a_worker_a_deployment_waits_for_one(
    house: House, principal: Principal, replica: Embeddings
) -> None:
    model = await house.deployments.deploy(principal, await house.model(principal), "mine")

    assert model.pipeline is not None
    assert not model.pipeline.available
    with pytest.raises(PipelineUnavailable) as refused:
        await _first(replica, principal)
    assert (("pipeline",), True) == (refused.value.path, bool(refused.value.retry_after_s))


async def test_two_users_may_call_theirs_alike_and_share_nothing(
    house: House, principal: Principal, stranger: Principal, replica: Embeddings, model_worker: ModelWorker
) -> None:
    mine, theirs = await house.model(principal), await house.model(stranger)
    await house.deployments.deploy(principal, mine, "mine")
    await house.deployments.deploy(stranger, theirs, "mine")

    both = await asyncio.gather(_first(replica, principal), _first(replica, stranger))
    again = [await _first(replica, owner) for owner in (principal, stranger)]

    assert [_expected(mine), _expected(theirs)] == both == again
    # The second time from the cache.
    assert 2 == len(model_worker.commands)


async def test_somebody_elses_pipeline_is_as_unknown_as_one_that_never_was(
    house: House, principal: Principal, stranger: Principal, replica: Embeddings, model_worker: ModelWorker
) -> None:
    deployed = await house.deployments.deploy(principal, await house.model(principal), "mine")
    assert deployed.pipeline is not None

    refusals = []
    for owner, name in ((stranger, "model/mine"), (stranger, "model/none"), (principal, "never heard of")):
        with pytest.raises(NotFound) as refused:
            await _first(replica, owner, name=name)
        refusals.append((refused.value.message, refused.value.path))

    assert 1 == len(set(refusals))
    assert None is await house.deployments.find_pipeline(stranger.user_id, "model/mine")
    assert [] == await house.deployments.find_many(stranger.user_id, [deployed.pipeline.id])
    assert [] == await house.deployments.list_available(stranger.user_id)
    selector = Selector(house.pipelines, house.deployments)
    assert "model/mine" == (await selector.get(principal.user_id, "model/mine")).name
    with pytest.raises(NotFound):
        await selector.get(stranger.user_id, "model/mine")


async def test_the_kind_of_a_model_is_checked_as_of_any_pipeline(
    house: House, principal: Principal, replica: Embeddings, model_worker: ModelWorker
) -> None:
    await house.deployments.deploy(principal, await house.model(principal, modality="IMAGE"), "mine")

    with pytest.raises(InvalidInput) as refused:
        await _first(replica, principal)

    assert ("texts", "0") == refused.value.path


async def test_a_call_that_runs_hears_nothing_of_new_versions(
    house: House, principal: Principal, replica: Embeddings, model_worker: ModelWorker
) -> None:
    old, new = await house.model(principal), await house.model(principal, dimension=5)
    await house.deployments.deploy(principal, old, "mine")
    model_worker.gate.clear()
    running = asyncio.create_task(_first(replica, principal))
    await asyncio.wait_for(model_worker.took.wait(), 5)

    await house.deployments.deploy(principal, new, "mine")
    await house.deployments.deploy(principal, old, "mine")
    await house.deployments.deploy(principal, new, "mine")
    model_worker.gate.set()

    assert _expected(old) == await running
    assert vector_of(f"{new}a", 5).tolist() == await _first(replica, principal)


async def test_no_call_fails_while_versions_come_and_go(
    house: House, principal: Principal, replica: Embeddings, model_worker: ModelWorker
) -> None:
    models = [await house.model(principal), await house.model(principal)]
    await house.deployments.deploy(principal, models[0], "mine")

    async def change() -> None:
        for number in range(20):
            await house.deployments.deploy(principal, models[(number + 1) % 2], "mine")

    async def call(caller: int) -> None:
        for number in range(20):
            text = f"{caller} {number}"
            assert await _first(replica, principal, text) in [_expected(one, text) for one in models]

    await asyncio.gather(change(), *(call(caller) for caller in range(5)))


async def test_a_job_keeps_the_model_of_its_creation(
    house: House,
    principal: Principal,
    embedding_jobs: EmbeddingJobs,
    model_worker: ModelWorker,
    bus: MemoryBus,
) -> None:
    old, new = await house.model(principal), await house.model(principal, dimension=5)
    deployed = await house.deployments.deploy(principal, old, "mine")
    claims = Claims(house.db, bus, meter=Counted().meter)
    job = await embedding_jobs.create(principal, CreateJobRequest(texts=["a"], pipeline="model/mine"))
    other = await embedding_jobs.create(principal, CreateJobRequest(texts=["a"], pipeline="text-a"))

    await house.deployments.deploy(principal, new, "mine")
    first = await claims.claim(ClaimJob(job_id=str(job.id), worker_id="w1"))
    second = await claims.claim(ClaimJob(job_id=str(job.id), worker_id="w2"))
    public = await claims.claim(ClaimJob(job_id=str(other.id), worker_id="w1"))

    assert deployed.pipeline is not None
    for answer in (first, second):
        assert isinstance(answer, JobClaimed)
        assert ("model/mine", deployed.pipeline.model) == (answer.spec.pipeline, answer.spec.model)
    assert isinstance(public, JobClaimed)
    assert None is public.spec.model
    assert 8 == job.dimension
    assert (subjects.embed_job("default", str(job.id)), f"{job.id}:1") in await house.published(job.id)


async def test_a_job_of_a_deployed_model_counts_in_the_pool_that_works_on_it(
    house: House,
    principal: Principal,
    stranger: Principal,
    embedding_jobs: EmbeddingJobs,
    model_worker: ModelWorker,
) -> None:
    backlog = Backlog(house.db, max_of_user=100, max_of_pool=1)
    await house.deployments.deploy(principal, await house.model(principal), "mine")

    await embedding_jobs.create(principal, CreateJobRequest(texts=["a"], pipeline="model/mine"))

    with pytest.raises(Busy):
        await backlog.check(stranger.user_id, "default")


async def test_a_model_stays_while_a_job_embeds_with_it(
    house: House, principal: Principal, embedding_jobs: EmbeddingJobs, model_worker: ModelWorker
) -> None:
    model_id = await house.model(principal)
    await house.deployments.deploy(principal, model_id, "mine")
    job = await embedding_jobs.create(principal, CreateJobRequest(texts=["a"], pipeline="model/mine"))
    await house.deployments.retire(principal, model_id)

    with pytest.raises(Conflict):
        await house.models.delete(principal, model_id)
    await house.end(job.id, JobState.SUCCEEDED)
    await house.models.delete(principal, model_id)


async def test_the_pool_of_models_is_that_of_workers_heard_of_lately(
    database: Database, bus: MemoryBus
) -> None:
    now_s = [1_000.0]
    registry = Pipelines(database, bus, clock=lambda: now_s[0])
    plain = PipelinesAnnounced(worker_id="w1", pipelines=[], models_pool=None)
    await registry._hear(plain)
    assert None is registry.find_models_pool()

    for worker_id, pool in (("w2", "fast"), ("w3", "big")):
        await registry._hear(msgspec.structs.replace(plain, worker_id=worker_id, models_pool=pool))
    assert "big" == registry.find_models_pool()
    await registry._hear(msgspec.structs.replace(plain, worker_id="w3", models_pool="big", leaving=True))
    assert "fast" == registry.find_models_pool()
    now_s[0] += 10.1
    assert None is registry.find_models_pool()
