"""Pictures and texts that models make: what may be asked for, and what is written."""

import asyncio
from uuid import UUID

import msgspec
import pytest

from bus.messages import GenerationSpec
from server.auth.principal import Principal, Scope
from server.errors import Conflict, Forbidden, InvalidInput, NotFound
from server.field_problems import InvalidParameters
from server.generations import GenerateRequest
from server.ids import new_id
from server.records import JobState, PageRequest
from tests.support.embedding import MakePrincipal
from tests.support.training_rows import House

SPEC = GenerationSpec(count=4, seed=1)


@pytest.fixture
async def conditional(house: House, principal: Principal) -> UUID:
    """A GAN that can be asked for a class."""
    job = await house.train(principal, parameters={"conditional": True})
    return await house.model(principal, job, modality="IMAGE", generates="images")


async def test_a_generation_waits_on_the_data_lane(
    house: House, principal: Principal, conditional: UUID
) -> None:
    spec = GenerationSpec(count=4, label="red")

    job = await house.generations.create(principal, GenerateRequest(model_id=conditional, spec=spec))

    assert (JobState.QUEUED, conditional, spec, []) == (job.state, job.model_id, job.spec, job.files)
    assert [(f"job.data.default.{job.id}", f"{job.id}:1")] == await house.published(job.id)


async def test_the_files_that_were_made_come_in_their_order_without_those_deleted_since(
    house: House, principal: Principal, conditional: UUID
) -> None:
    job = await house.generations.create(principal, GenerateRequest(model_id=conditional, spec=SPEC))
    files = [await house.upload(principal, f"made {number}".encode()) for number in range(3)]
    order = [files[2].id, files[0].id, files[1].id]
    await house.db.execute(
        "UPDATE generation_jobs SET file_ids = {}::uuid[] WHERE job_id = {}", order, job.id
    )
    await house.uploads.delete(principal, files[0].id)

    page = await house.generations.page(principal.user_id, PageRequest(first=5))

    assert [[files[2].id, files[1].id]] == [[file.id for file in found.files] for found in page.items]


async def test_only_a_model_that_generates_does(house: House, principal: Principal) -> None:
    silent = await house.model(principal)

    with pytest.raises(InvalidInput) as refused:
        await house.generations.create(principal, GenerateRequest(model_id=silent, spec=SPEC))
    with pytest.raises(NotFound) as unknown:
        await house.generations.create(principal, GenerateRequest(model_id=new_id(), spec=SPEC))

    assert ("model_id",) == refused.value.path == unknown.value.path


async def test_a_label_is_a_class_of_the_data_of_a_conditional_gan(
    house: House, principal: Principal, conditional: UUID
) -> None:
    plain = await house.model(principal, generates="images")
    writer = await house.model(principal, generates="texts")

    for model_id, label in ((conditional, "green"), (plain, "red"), (writer, "red")):
        request = GenerateRequest(model_id=model_id, spec=GenerationSpec(label=label))
        with pytest.raises(InvalidInput) as refused:
            await house.generations.create(principal, request)
        assert ("label",) == refused.value.path


async def test_a_prompt_is_for_texts(house: House, principal: Principal, conditional: UUID) -> None:
    writer = await house.model(principal, generates="texts")
    spec = GenerationSpec(prompt="Once\nupon")

    await house.generations.create(principal, GenerateRequest(model_id=writer, spec=spec))
    with pytest.raises(InvalidInput) as refused:
        await house.generations.create(principal, GenerateRequest(model_id=conditional, spec=spec))

    assert ("prompt",) == refused.value.path


async def test_every_field_that_is_out_of_range_is_named(house: House, principal: Principal) -> None:
    spec = GenerationSpec(count=0, seed=-1, temperature=0, top_p=2, length=0, prompt="\ud83d", label="\ud83d")

    with pytest.raises(InvalidParameters) as refused:
        await house.generations.create(principal, GenerateRequest(model_id=new_id(), spec=spec))

    named = [problem.path for problem in refused.value.problems]
    assert {(field.name,) for field in msgspec.structs.fields(GenerationSpec)} == set(named)


async def test_one_key_makes_one_generation(house: House, principal: Principal, conditional: UUID) -> None:
    request = GenerateRequest(model_id=conditional, spec=SPEC, idempotency_key="k")

    jobs = await asyncio.gather(*(house.generations.create(principal, request) for _ in range(30)))

    assert 1 == len({job.id for job in jobs})
    with pytest.raises(Conflict):
        await house.generations.create(
            principal, msgspec.structs.replace(request, spec=GenerationSpec(count=5))
        )


async def test_a_key_without_the_scope_generates_nothing(house: House, make_principal: MakePrincipal) -> None:
    with pytest.raises(Forbidden):
        await house.generations.create(
            await make_principal(Scope.EMBED), GenerateRequest(model_id=new_id(), spec=SPEC)
        )
