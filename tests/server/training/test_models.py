"""Models: their card, their files as one, and how they go."""

import io
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.messages import GenerationSpec
from server.auth.principal import Principal, Scope
from server.errors import Conflict, Forbidden, NotFound
from server.generations import GenerateRequest
from server.ids import new_id
from server.records import JobState, Modality, PageRequest
from server.training_records import TrainerKind
from server.zip_stream import ZipEntry, zip_stream
from tests.support.embedding import MakePrincipal
from tests.support.training_rows import House

AT = datetime(2024, 5, 6, 7, 8, 10, tzinfo=UTC)


async def _chunks(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def _joined(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_a_model_tells_what_it_is(house: House, principal: Principal) -> None:
    job = await house.train(principal)
    model_id = await house.model(principal, job)

    model = await house.models.get(principal.user_id, model_id)

    assert ("first", TrainerKind.GAN, Modality.TEXT, 8, {"loss": 0.5}, None, None) == (
        model.name,
        model.trainer,
        model.modality,
        model.dimension,
        model.metrics,
        model.generates,
        model.pipeline,
    )
    assert (job.id, job.dataset_id) == (model.job_id, model.dataset_id)


async def test_models_are_paged_newest_first_all_or_those_of_one_data_set(
    house: House, principal: Principal
) -> None:
    first, other = await house.ready(principal), await house.ready(principal, "other")
    ids = [
        await house.model(principal, await house.train(principal, dataset))
        for dataset in (first, other, first)
    ]

    every = await house.models.page(principal.user_id, PageRequest(first=2))
    some = await house.models.page(principal.user_id, PageRequest(first=10), dataset=first.id)

    assert ([ids[2], ids[1]], True) == ([model.id for model in every.items], every.has_next)
    assert [ids[2], ids[0]] == [model.id for model in some.items]
    assert set(ids) == {
        model.id for model in await house.models.find_many(principal.user_id, [*ids, new_id()])
    }


async def test_the_card_is_that_of_the_encoder(house: House, principal: Principal) -> None:
    model_id = await house.model(principal)

    assert (await house.models.card(principal.user_id, model_id)).startswith(b"encoder/README.md of")

    await house.objects.delete(f"models/{model_id}/encoder/README.md")
    with pytest.raises(NotFound):
        await house.models.card(principal.user_id, model_id)


async def test_a_download_holds_every_file_but_the_one_that_is_for_workers(
    house: House, principal: Principal
) -> None:
    model_id = await house.model(principal)

    raw = await _joined(await house.models.download(principal.user_id, model_id))

    archive = zipfile.ZipFile(io.BytesIO(raw))
    assert archive.testzip() is None
    assert ["encoder/manifest.json", "encoder/weights.safetensors", "encoder/README.md"] == archive.namelist()
    for name in archive.namelist():
        assert await house.objects.get(f"models/{model_id}/{name}") == archive.read(name)


async def test_no_more_than_a_chunk_of_a_zip_file_is_held_at_a_time() -> None:
    parts = [bytes([number]) * 100_000 for number in range(50)]
    entry = ZipEntry(name="a", at=AT, chunks=_chunks(parts))

    sizes = [len(chunk) async for chunk in zip_stream([entry])]

    assert max(sizes) <= 101_000
    assert len(parts) <= len(sizes)


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
        st.lists(st.binary(max_size=50), max_size=4),
        max_size=5,
    )
)
async def test_whatever_goes_into_a_zip_file_comes_out(files: dict[str, list[bytes]]) -> None:
    entries = [ZipEntry(name=name, at=AT, chunks=_chunks(parts)) for name, parts in files.items()]

    archive = zipfile.ZipFile(io.BytesIO(await _joined(zip_stream(entries))))

    assert {name: b"".join(parts) for name, parts in files.items()} == {
        info.filename: archive.read(info) for info in archive.infolist()
    }
    assert all((2024, 5, 6, 7, 8, 10) == info.date_time for info in archive.infolist())


async def test_a_deleted_model_is_gone_and_its_files_with_it(house: House, principal: Principal) -> None:
    model_id, kept = await house.model(principal), await house.model(principal)
    child = await house.model(principal, parent_id=model_id)

    await house.models.delete(principal, model_id)
    await house.leftovers.sweep()

    with pytest.raises(NotFound):
        await house.models.get(principal.user_id, model_id)
    with pytest.raises(NotFound):
        await house.models.delete(principal, model_id)
    assert not await house.objects.exists(f"models/{model_id}/encoder/manifest.json")
    assert await house.objects.exists(f"models/{kept}/encoder/manifest.json")
    assert model_id == (await house.models.get(principal.user_id, child)).parent_id


async def test_a_model_stays_while_it_is_deployed_or_a_job_needs_it(
    house: House, principal: Principal
) -> None:
    model_id = await house.model(principal, generates="texts")
    child = await house.train(principal, parent_model_id=model_id)
    made = await house.generations.create(
        principal, GenerateRequest(model_id=model_id, spec=GenerationSpec())
    )

    async def is_kept() -> bool:
        try:
            await house.models.delete(principal, model_id)
        except Conflict as error:
            return ("model_id",) == error.path
        return False

    assert await is_kept()
    await house.end(child.id, JobState.FAILED)
    assert await is_kept()
    await house.end(made.id, JobState.SUCCEEDED)
    await house.deployments.deploy(principal, model_id, "mine")
    assert await is_kept()
    await house.deployments.retire(principal, model_id)
    assert not await is_kept()


async def test_a_key_without_the_scope_deletes_nothing(
    house: House, principal: Principal, make_principal: MakePrincipal
) -> None:
    model_id = await house.model(principal)

    with pytest.raises(Forbidden):
        await house.models.delete(await make_principal(Scope.READ, Scope.EMBED), model_id)
