"""Data sets: how they come, what is told of them, and how they go."""

import asyncio

import msgspec
import pytest

from bus.errors import ObjectNotFound
from bus.messages import RowIssue, SampleSource, UploadedSource
from server.auth.principal import Principal, Scope
from server.datasets import CreateDatasetRequest
from server.errors import Busy, Conflict, Forbidden, InvalidInput, NotFound, QuotaExceeded, ServiceError
from server.ids import new_id
from server.records import JobState, PageRequest
from server.training_records import DatasetIssueRecord, DatasetKind, DatasetStatus
from tests.support.embedding import MakePrincipal
from tests.support.training_rows import INVALID, MAX_DATASETS, MAX_JOBS, TRAINER, House


async def test_a_data_set_of_a_file_is_validating_and_on_its_lane(house: House, principal: Principal) -> None:
    file = await house.upload(principal)

    record = await house.datasets.create(principal, CreateDatasetRequest(name="colours", file_id=file.id))

    [row] = await house.db.fetch("SELECT job_id, source FROM datasets WHERE id = {}", record.id)
    assert ("colours", 1, DatasetStatus.VALIDATING, []) == (
        record.name,
        record.version,
        record.status,
        record.issues,
    )
    assert UploadedSource(
        object_key=file.object_key, name="a.csv", media_type=file.media_type, byte_size=file.byte_size
    ) == msgspec.msgpack.decode(row["source"], type=UploadedSource | SampleSource)
    assert [(f"job.data.default.{row['job_id']}", f"{row['job_id']}:1")] == await house.published(
        row["job_id"]
    )
    assert 1 == house.num_woken


async def test_a_sample_goes_to_a_pool_that_has_it(house: House, principal: Principal) -> None:
    await house.hear_of(msgspec.structs.replace(TRAINER, worker_id="t2", pool="big", samples=["cifar10"]))

    record = await house.datasets.create(principal, CreateDatasetRequest(name="a", sample="cifar10"))

    [row] = await house.db.fetch(
        "SELECT lane_jobs.pool, source FROM datasets JOIN lane_jobs USING (job_id) WHERE id = {}", record.id
    )
    assert "big" == row["pool"]
    assert SampleSource(name="cifar10") == msgspec.msgpack.decode(
        row["source"], type=UploadedSource | SampleSource
    )


async def test_what_was_found_is_told(house: House, principal: Principal) -> None:
    issue = RowIssue(row=7, message="It is no picture.")

    record = await house.ready(principal, issues=[issue], num_issues=1)

    assert (DatasetStatus.READY, DatasetKind.IMAGES, 120, 100, 20, [28, 28, 1]) == (
        record.status,
        record.kind,
        record.num_rows,
        record.num_train,
        record.num_test,
        record.shape,
    )
    assert (["blue", "red"], [60, 60]) == (record.classes, record.class_counts)
    assert [DatasetIssueRecord(row=7, message="It is no picture.")] == record.issues


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"name": ""}, ("name",)),
        ({"name": "  "}, ("name",)),
        ({"name": "x" * 201}, ("name",)),
        ({"name": "a\nb"}, ("name",)),
        ({"name": "\ud83d"}, ("name",)),
        ({"sample": None}, ("file_id",)),
        ({"file_id": new_id()}, ("file_id",)),
        ({"sample": "\ud83d"}, ("sample",)),
        ({"sample": "no such"}, ("sample",)),
        ({"idempotency_key": "x" * 201}, ("idempotency_key",)),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_with_its_path(
    house: House, principal: Principal, changes: dict[str, object], path: tuple[str, ...]
) -> None:
    request = msgspec.structs.replace(CreateDatasetRequest(name="a", sample="digits"), **changes)

    with pytest.raises(InvalidInput) as refused:
        await house.datasets.create(principal, request)

    assert path == refused.value.path


async def test_an_unknown_sample_is_answered_with_the_known_ones(house: House, principal: Principal) -> None:
    with pytest.raises(InvalidInput, match="digits, names"):
        await house.datasets.create(principal, CreateDatasetRequest(name="a", sample="nodigits"))


async def test_without_a_worker_files_are_accepted_and_samples_are_asked_for_again(
    house: House, principal: Principal
) -> None:
    await house.hear_of(msgspec.structs.replace(TRAINER, leaving=True))
    file = await house.upload(principal)

    await house.datasets.create(principal, CreateDatasetRequest(name="a", file_id=file.id))
    with pytest.raises(Busy) as refused:
        await house.datasets.create(principal, CreateDatasetRequest(name="a", sample="digits"))

    assert refused.value.retry_after_s


async def test_an_unknown_file_is_not_found(house: House, principal: Principal) -> None:
    with pytest.raises(NotFound) as refused:
        await house.datasets.create(principal, CreateDatasetRequest(name="a", file_id=new_id()))

    assert ("file_id",) == refused.value.path


async def test_a_key_without_the_scope_makes_nothing(house: House, make_principal: MakePrincipal) -> None:
    with pytest.raises(Forbidden):
        await house.dataset(await make_principal(Scope.EMBED, Scope.READ))


async def test_a_name_in_use_gets_the_next_version_also_when_many_come_at_once(
    house: House, principal: Principal, stranger: Principal
) -> None:
    records = await asyncio.gather(*(house.dataset(principal) for _ in range(12)))
    other = await house.dataset(principal, "other")
    theirs = await house.dataset(stranger)

    assert list(range(1, 13)) == sorted(record.version for record in records)
    assert (1, 1) == (other.version, theirs.version)


async def test_one_key_makes_one_data_set_whoever_asks_how_often(house: House, principal: Principal) -> None:
    request = CreateDatasetRequest(name="a", sample="digits", idempotency_key="k")

    records = await asyncio.gather(*(house.datasets.create(principal, request) for _ in range(30)))

    assert 1 == len({record.id for record in records})
    assert [{"num": 1}] == await house.db.fetch("SELECT count(*) AS num FROM datasets")
    with pytest.raises(Conflict) as refused:
        await house.datasets.create(principal, msgspec.structs.replace(request, name="b"))
    assert ("idempotency_key",) == refused.value.path


async def test_a_key_whose_data_set_was_deleted_makes_no_other(house: House, principal: Principal) -> None:
    request = CreateDatasetRequest(name="a", sample="digits", idempotency_key="k")
    record = await house.datasets.create(principal, request)
    await house.datasets.delete(principal, record.id)

    with pytest.raises(Conflict):
        await house.datasets.create(principal, request)


async def test_a_user_has_so_many_data_sets_and_no_more(
    house: House, principal: Principal, stranger: Principal
) -> None:
    records = [await house.ready(principal) for _ in range(MAX_DATASETS)]

    with pytest.raises(QuotaExceeded):
        await house.dataset(principal)
    await house.dataset(stranger)
    await house.datasets.delete(principal, records[0].id)
    await house.dataset(principal)


async def test_too_many_unfinished_jobs_are_too_many(house: House, principal: Principal) -> None:
    for _ in range(MAX_JOBS):
        await house.db.execute(
            "INSERT INTO jobs (id, user_id, kind, state, last_seq) VALUES ({}, {}, 'EMBEDDING', 'QUEUED', 1)",
            new_id(),
            principal.user_id,
        )

    with pytest.raises(Busy):
        await house.dataset(principal)


@pytest.mark.parametrize(
    ("kind", "name", "media_type"),
    [("images", "preview.png", "image/png"), ("texts", "preview.json", "application/json")],
)
async def test_a_preview_is_a_picture_or_json(
    house: House, principal: Principal, kind: str, name: str, media_type: str
) -> None:
    record = await house.ready(principal, kind=kind)
    await house.objects.put(f"datasets/{record.id}/{name}", b"seen")

    assert (media_type, b"seen") == await house.datasets.preview(principal.user_id, record.id)


async def test_there_is_no_preview_before_the_data_set_is_ready(house: House, principal: Principal) -> None:
    waiting = await house.dataset(principal)
    empty = await house.ready(principal)

    with pytest.raises(Conflict):
        await house.datasets.preview(principal.user_id, waiting.id)
    with pytest.raises(NotFound):
        await house.datasets.preview(principal.user_id, empty.id)


async def test_a_deleted_data_set_is_gone_and_its_version_with_it(house: House, principal: Principal) -> None:
    first, kept = await house.ready(principal), await house.ready(principal, "kept")

    await house.datasets.delete(principal, first.id)
    again = await house.dataset(principal)

    with pytest.raises(NotFound):
        await house.datasets.get(principal.user_id, first.id)
    with pytest.raises(NotFound):
        await house.datasets.delete(principal, first.id)
    assert 2 == again.version
    page = await house.datasets.page(principal.user_id, PageRequest(first=10))
    assert [again.id, kept.id] == [record.id for record in page.items]
    found = await house.datasets.find_many(principal.user_id, [first.id, kept.id])
    assert [kept.id] == [record.id for record in found]


async def test_a_data_set_stays_while_a_training_needs_it(house: House, principal: Principal) -> None:
    dataset = await house.ready(principal)
    job = await house.train(principal, dataset)

    with pytest.raises(Conflict):
        await house.datasets.delete(principal, dataset.id)
    await house.end(job.id, JobState.CANCELLED)

    await house.datasets.delete(principal, dataset.id)


async def test_a_file_that_is_deleted_stays_until_its_data_set_has_been_looked_at(
    house: House, principal: Principal
) -> None:
    file = await house.upload(principal)
    record = await house.datasets.create(principal, CreateDatasetRequest(name="a", file_id=file.id))

    await house.uploads.delete(principal, file.id)
    await house.leftovers.sweep()
    assert await house.objects.exists(file.object_key)

    await house.validate(record, **INVALID)
    await house.leftovers.sweep()
    assert not await house.objects.exists(file.object_key)


async def test_a_file_that_is_kept_stays_after_its_data_set_has_been_looked_at(
    house: House, principal: Principal
) -> None:
    file = await house.upload(principal)
    record = await house.datasets.create(principal, CreateDatasetRequest(name="a", file_id=file.id))
    await house.validate(record)

    await house.leftovers.sweep()

    assert await house.objects.exists(file.object_key)
    await house.uploads.delete(principal, file.id)
    assert not await house.objects.exists(file.object_key)


async def test_a_file_is_deleted_or_made_into_a_data_set_whichever_comes_first(
    house: House, principal: Principal
) -> None:
    """Whatever the order, no data set is left with a source that is not there."""

    async def create(file_id: object) -> ServiceError | None:
        try:
            await house.datasets.create(principal, CreateDatasetRequest(name="a", file_id=file_id))
        except NotFound as error:
            return error
        return None

    for number in range(10):
        file = await house.upload(principal, f"row {number}".encode())
        refused, _ = await asyncio.gather(create(file.id), house.uploads.delete(principal, file.id))

        assert (refused is None) == await house.objects.exists(file.object_key)


async def test_the_objects_of_a_deleted_data_set_go_once_nobody_looks_at_it(
    house: House, principal: Principal
) -> None:
    record, other = await house.dataset(principal), await house.ready(principal)
    keys = [f"datasets/{one.id}/data.parquet" for one in (record, other)]
    for key in keys:
        await house.objects.put(key, b"rows")
    await house.datasets.delete(principal, record.id)

    await house.db.execute("UPDATE jobs SET state = 'CANCELLING' WHERE kind = 'DATASET'")
    await house.leftovers.sweep()
    assert await house.objects.exists(keys[0])
    await house.validate(record)
    await house.leftovers.sweep()
    await house.leftovers.sweep()

    with pytest.raises(ObjectNotFound):
        await house.objects.get(keys[0])
    assert await house.objects.exists(keys[1])
