"""What is somebody else's is answered exactly as what was never there."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from bus.messages import GenerationSpec
from server.auth.principal import Principal
from server.datasets import CreateDatasetRequest
from server.errors import NotFound
from server.generations import GenerateRequest
from server.ids import new_id
from server.records import JobState, PageRequest, Record
from tests.support.training_rows import House, training


class Theirs(Record, frozen=True):
    """One of everything that a user may have."""

    file: UUID
    dataset: UUID
    training: UUID
    model: UUID
    generation: UUID


@pytest.fixture
async def theirs(house: House, principal: Principal) -> Theirs:
    """What the principal has, which a stranger asks for."""
    dataset = await house.ready(principal)
    await house.objects.put(f"datasets/{dataset.id}/preview.png", b"seen")
    job = await house.train(principal, dataset)
    model = await house.model(principal, job, generates="images")
    made = await house.generations.create(principal, GenerateRequest(model_id=model, spec=GenerationSpec()))
    await house.deployments.deploy(principal, model, "mine")
    await house.end(job.id, JobState.FAILED)
    return Theirs(
        file=(await house.upload(principal)).id,
        dataset=dataset.id,
        training=job.id,
        model=model,
        generation=made.id,
    )


_Call = Callable[[House, Principal, UUID], Awaitable[object]]


async def _begin(house: House, who: Principal, parent: UUID) -> object:
    dataset = await house.ready(who)
    return await house.jobs.start(who, training(dataset.id, parent_model_id=parent))


CALLS: dict[str, tuple[str, _Call]] = {
    "create a data set": (
        "file",
        lambda house, who, one: house.datasets.create(who, CreateDatasetRequest(name="a", file_id=one)),
    ),
    "get a data set": ("dataset", lambda house, who, one: house.datasets.get(who.user_id, one)),
    "preview": ("dataset", lambda house, who, one: house.datasets.preview(who.user_id, one)),
    "delete a data set": ("dataset", lambda house, who, one: house.datasets.delete(who, one)),
    "train on": ("dataset", lambda house, who, one: house.jobs.start(who, training(one))),
    "train with nothing right": (
        "dataset",
        lambda house, who, one: house.jobs.start(who, training(one, parameters={"conditional": True})),
    ),
    "begin with": ("model", _begin),
    "get a training": ("training", lambda house, who, one: house.jobs.get(who.user_id, one)),
    "resume": ("training", lambda house, who, one: house.jobs.resume(who, one, max_steps=1)),
    "sample": ("training", lambda house, who, one: house.jobs.sample(who.user_id, one, 1)),
    "get a model": ("model", lambda house, who, one: house.models.get(who.user_id, one)),
    "card": ("model", lambda house, who, one: house.models.card(who.user_id, one)),
    "download": ("model", lambda house, who, one: house.models.download(who.user_id, one)),
    "delete a model": ("model", lambda house, who, one: house.models.delete(who, one)),
    "deploy": ("model", lambda house, who, one: house.deployments.deploy(who, one, "mine")),
    "retire": ("model", lambda house, who, one: house.deployments.retire(who, one)),
    "generate": (
        "model",
        lambda house, who, one: house.generations.create(
            who, GenerateRequest(model_id=one, spec=GenerationSpec(label="red"))
        ),
    ),
    "get a generation": ("generation", lambda house, who, one: house.generations.get(who.user_id, one)),
}


async def test_no_call_tells_what_is_somebody_elses_from_what_is_not_there(
    house: House, stranger: Principal, theirs: Theirs
) -> None:
    before = await house.db.fetch(
        "SELECT id, state, last_seq FROM jobs WHERE user_id <> {}", stranger.user_id
    )

    for kind, call in CALLS.values():
        refusals = []
        for one in (getattr(theirs, kind), new_id()):
            with pytest.raises(NotFound) as refused:
                await call(house, stranger, one)
            refusals.append((refused.value.message, refused.value.path, refused.value.retry_after_s))
        assert refusals[0] == refusals[1]

    assert before == await house.db.fetch(
        "SELECT id, state, last_seq FROM jobs WHERE user_id <> {}", stranger.user_id
    )


async def test_no_list_holds_what_is_somebody_elses(
    house: House, principal: Principal, stranger: Principal, theirs: Theirs
) -> None:
    ids = [theirs.dataset, theirs.training, theirs.model, theirs.generation]
    services = (house.datasets, house.jobs, house.models, house.generations)

    for service in services:
        assert 1 == len(await service.find_many(principal.user_id, ids))
        assert [] == await service.find_many(stranger.user_id, ids)
        assert 1 == len((await service.page(principal.user_id, PageRequest(first=10))).items)
        assert [] == (await service.page(stranger.user_id, PageRequest(first=10))).items
    assert (
        [] == (await house.models.page(stranger.user_id, PageRequest(first=10), dataset=theirs.dataset)).items
    )
