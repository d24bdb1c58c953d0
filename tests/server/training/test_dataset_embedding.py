"""Embedding jobs over the rows of a data set."""

import msgspec
import pytest

from bus.memory import MemoryBus
from bus.messages import ObjectInput, TextInput
from bus.messages.embedding import decode_inputs, encode_inputs
from bus.objects import ObjectStore
from server.auth.principal import Principal
from server.database import Database
from server.embedding_jobs import EmbeddingJobs
from server.errors import Conflict, DatasetInvalid, InvalidInput, NotFound
from server.ids import new_id
from server.job_inputs import CreateJobRequest, JobInputs
from server.pipelines import Pipelines
from server.records import JobState
from server.selection import Selector
from server.training_records import DatasetRecord
from server.usage import UsageMeter
from tests.support.embedding import EmbedWorker, until
from tests.support.training_rows import INVALID, House

MAX_INPUTS = 200
TEXTS = {"kind": "texts", "modality": "TEXT", "num_rows": 3}


@pytest.fixture
async def jobs(
    *,
    database: Database,
    bus: MemoryBus,
    objects: ObjectStore,
    house: House,
    registry: Pipelines,
    usage: UsageMeter,
    worker: EmbedWorker,
) -> EmbeddingJobs:
    """Embedding jobs of a server that knows a pipeline for texts and one for images."""
    inputs = JobInputs(
        database,
        objects,
        house.uploads,
        Selector(registry, house.deployments),
        max_inputs=MAX_INPUTS,
        max_text_bytes=1000,
    )
    await worker.announce()

    async def are_known() -> bool:
        return len(await registry.list_available()) == 2

    await until(are_known)
    return EmbeddingJobs(database, objects, inputs, usage, backlog=house.backlog, wake=lambda: None)


async def _texts(house: House, owner: Principal) -> DatasetRecord:
    dataset = await house.ready(owner, **TEXTS)
    inputs = encode_inputs([TextInput(text=text) for text in ("one", "two", "three")])
    await house.objects.put(f"datasets/{dataset.id}/inputs.msgpack", inputs)
    return dataset


async def test_the_rows_of_a_data_set_are_the_inputs_in_their_order(
    house: House, jobs: EmbeddingJobs, principal: Principal
) -> None:
    dataset = await _texts(house, principal)

    job = await jobs.create(principal, CreateJobRequest(dataset_id=dataset.id))

    assert (3, "text-a", 8) == (job.item_count, job.pipeline_name, job.dimension)
    inputs = decode_inputs(await house.objects.get(f"jobs/{job.id}/inputs"))
    assert [TextInput(text=text) for text in ("one", "two", "three")] == inputs


async def test_pictures_go_to_the_pipeline_for_images(
    house: House, jobs: EmbeddingJobs, principal: Principal
) -> None:
    dataset = await house.ready(principal)
    picture = ObjectInput(key=f"datasets/{dataset.id}/images/000000.png", media_type="image/png", byte_size=9)
    await house.objects.put(f"datasets/{dataset.id}/inputs.msgpack", encode_inputs([picture]))

    job = await jobs.create(principal, CreateJobRequest(dataset_id=dataset.id))

    assert ("image-a", 120) == (job.pipeline_name, job.item_count)
    assert [picture] == decode_inputs(await house.objects.get(f"jobs/{job.id}/inputs"))


async def test_what_can_not_be_embedded_is_refused(
    house: House, jobs: EmbeddingJobs, principal: Principal
) -> None:
    good = await _texts(house, principal)
    waiting = await house.dataset(principal)
    invalid = await house.ready(principal, **INVALID)
    tagged = await house.ready(principal, kind="tagged", modality="TEXT")
    long = await house.ready(principal, **{**TEXTS, "num_rows": MAX_INPUTS + 1})
    without_inputs = await house.ready(principal, **TEXTS)
    cases: list[tuple[CreateJobRequest, type[Exception]]] = [
        (CreateJobRequest(dataset_id=new_id()), NotFound),
        (CreateJobRequest(dataset_id=waiting.id), Conflict),
        (CreateJobRequest(dataset_id=invalid.id), DatasetInvalid),
        (CreateJobRequest(dataset_id=tagged.id), InvalidInput),
        (CreateJobRequest(dataset_id=long.id), InvalidInput),
        (CreateJobRequest(dataset_id=without_inputs.id), InvalidInput),
        (CreateJobRequest(dataset_id=good.id, texts=["a"]), InvalidInput),
        (CreateJobRequest(dataset_id=good.id, file_ids=[]), InvalidInput),
        (CreateJobRequest(dataset_id=good.id, pipeline="image-a"), InvalidInput),
    ]

    for request, error in cases:
        with pytest.raises(error) as refused:
            await jobs.create(principal, request)
        assert ("dataset_id",) == refused.value.path  # type: ignore[attr-defined]
    assert [] == await house.db.fetch("SELECT 1 FROM embedding_jobs")


async def test_one_key_is_for_one_data_set(house: House, jobs: EmbeddingJobs, principal: Principal) -> None:
    dataset, other = await _texts(house, principal), await _texts(house, principal)
    request = CreateJobRequest(dataset_id=dataset.id, idempotency_key="k")

    first, second = await jobs.create(principal, request), await jobs.create(principal, request)

    assert first.id == second.id
    with pytest.raises(Conflict):
        await jobs.create(principal, msgspec.structs.replace(request, dataset_id=other.id))


async def test_a_data_set_stays_while_a_job_embeds_it_and_the_job_keeps_its_inputs(
    house: House, jobs: EmbeddingJobs, principal: Principal
) -> None:
    dataset = await _texts(house, principal)
    job = await jobs.create(principal, CreateJobRequest(dataset_id=dataset.id))

    with pytest.raises(Conflict):
        await house.datasets.delete(principal, dataset.id)
    await house.end(job.id, JobState.SUCCEEDED)
    await house.datasets.delete(principal, dataset.id)
    await house.leftovers.sweep()

    assert 3 == len(decode_inputs(await house.objects.get(f"jobs/{job.id}/inputs")))


async def test_somebody_elses_data_set_is_not_embedded(
    house: House, jobs: EmbeddingJobs, principal: Principal, stranger: Principal
) -> None:
    dataset = await _texts(house, principal)

    with pytest.raises(NotFound):
        await jobs.create(stranger, CreateJobRequest(dataset_id=dataset.id))
