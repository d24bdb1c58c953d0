"""Creating jobs, finding them, and fetching what they made."""

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest

from bus.memory import MemoryBus
from bus.messages import HostedPipeline, ObjectInput, TextInput
from bus.messages.embedding import decode_inputs
from bus.objects import ObjectStore
from server.auth.principal import Principal, Scope
from server.database import Database
from server.errors import (
    Busy,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    PipelineUnavailable,
    ServiceError,
    UnsupportedMedia,
)
from server.ids import new_id
from server.job_inputs import CreateJobRequest
from server.records import FileRecord, JobState, PageRequest
from tests.support.jobs import DIMENSION, HOSTED, MAX_BYTES, Replica, Worker, make_user, vector_of

IMAGES = HostedPipeline(
    name="test-image", version="1", modality="IMAGE", dimension=1280, pool="pictures", auto_rank=1
)
#: One pixel.
A_GIF = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
#: No sample.
A_WAV = bytes.fromhex(
    "524946462400000057415645666d7420100000000100010044ac000088580100020010006461746100000000"
)


async def _upload(replica: Replica, owner: Principal, content: bytes, name: str = "file") -> FileRecord:
    async def chunks() -> AsyncIterator[bytes]:
        yield content

    return await replica.uploads.store(owner, name=name, chunks=chunks())


async def _count(db: Database, table: str) -> int:
    [row] = await db.fetch(f"SELECT count(*) AS num FROM {table}")  # noqa: S608 - names of our tables
    return int(row["num"])


async def _download(replica: Replica, user_id: UUID, job_id: UUID) -> tuple[int, bytes]:
    size, chunks = await replica.jobs.result(user_id, job_id)
    return size, b"".join([chunk async for chunk in chunks])


async def test_a_new_job_is_queued_with_its_inputs_its_first_event_and_its_way_to_the_bus(
    replica: Replica, owner: Principal, database: Database, objects: ObjectStore
) -> None:
    job = await replica.jobs.create(owner, CreateJobRequest(texts=["one", "two"]))

    assert (JobState.QUEUED, 0, HOSTED.name, 2, DIMENSION) == (
        job.state,
        job.attempt,
        job.pipeline_name,
        job.item_count,
        job.dimension,
    )
    [row] = await database.fetch("SELECT inputs_key, chunk_size FROM embedding_jobs")
    assert 64 == row["chunk_size"]
    assert [TextInput(text="one"), TextInput(text="two")] == decode_inputs(
        await objects.get(row["inputs_key"])
    )
    assert [{"subject": f"job.embed.default.{job.id}", "message_id": f"{job.id}:1", "sent_at": None}] == (
        await database.fetch("SELECT subject, message_id, sent_at FROM outbox")
    )
    assert [{"seq": 1, "attempt": 0, "kind": "state_changed"}] == await database.fetch(
        "SELECT seq, attempt, kind FROM job_events"
    )


@pytest.mark.parametrize(
    ("dimension", "chunk_size"), [(1, 64), (384, 64), (1280, 39), (50_000, 1), (99_999, 1)]
)
async def test_a_chunk_holds_at_most_64_items_and_200_kb(
    replica: Replica, owner: Principal, bus: MemoryBus, dimension: int, chunk_size: int
) -> None:
    await replica.hear_of(
        HostedPipeline(name="wide", version="1", modality="TEXT", dimension=dimension, pool="default")
    )
    await replica.jobs.create(owner, CreateJobRequest(texts=["one"], pipeline="wide"))

    assert [{"chunk_size": chunk_size}] == await replica.db.fetch("SELECT chunk_size FROM embedding_jobs")


async def test_files_go_to_the_pool_of_the_pipeline_that_takes_them(
    replica: Replica, owner: Principal, bus: MemoryBus, objects: ObjectStore
) -> None:
    await replica.hear_of(HOSTED, IMAGES)
    picture = await _upload(replica, owner, A_GIF)

    job = await replica.jobs.create(owner, CreateJobRequest(file_ids=[picture.id, picture.id]))

    assert (IMAGES.name, 2) == (job.pipeline_name, job.item_count)
    [row] = await replica.db.fetch(
        "SELECT inputs_key, subject FROM embedding_jobs JOIN outbox USING (job_id)"
    )
    assert f"job.embed.pictures.{job.id}" == row["subject"]
    picture_input = ObjectInput(key=picture.object_key, media_type="image/gif", byte_size=len(A_GIF))
    assert [picture_input] * 2 == decode_inputs(await objects.get(row["inputs_key"]))


@pytest.mark.parametrize(
    ("request_", "kind", "path"),
    [
        (CreateJobRequest(), InvalidInput, ("texts",)),
        (CreateJobRequest(texts=["a"], file_ids=[new_id()]), InvalidInput, ("texts",)),
        (CreateJobRequest(texts=[]), InvalidInput, ("texts",)),
        (CreateJobRequest(file_ids=[]), InvalidInput, ("file_ids",)),
        (CreateJobRequest(texts=["a"] * 101), InvalidInput, ("texts",)),
        (CreateJobRequest(texts=["a", ""]), InvalidInput, ("texts", "1")),
        (CreateJobRequest(texts=["a\0"]), InvalidInput, ("texts", "0")),
        (CreateJobRequest(texts=["a", "b", "\ud800"]), InvalidInput, ("texts", "2")),
        (CreateJobRequest(texts=["a", "b" * (MAX_BYTES + 1)]), PayloadTooLarge, ("texts", "1")),
        (CreateJobRequest(texts=["a"], pipeline="no-such"), NotFound, ("pipeline",)),
        (CreateJobRequest(texts=["a"], pipeline=""), NotFound, ("pipeline",)),
        (CreateJobRequest(texts=["a"], pipeline="\ud800"), InvalidInput, ("pipeline",)),
        (CreateJobRequest(texts=["a"], pipeline="a\0"), InvalidInput, ("pipeline",)),
        (CreateJobRequest(texts=["a"], pipeline="test-image"), InvalidInput, ("texts", "0")),
        (CreateJobRequest(file_ids=[new_id()]), NotFound, ("file_ids", "0")),
        (CreateJobRequest(texts=["a"], idempotency_key=""), InvalidInput, ("idempotency_key",)),
        (CreateJobRequest(texts=["a"], idempotency_key="k" * 201), InvalidInput, ("idempotency_key",)),
        (CreateJobRequest(texts=["a"], idempotency_key="\ud800"), InvalidInput, ("idempotency_key",)),
        (CreateJobRequest(texts=["a"], idempotency_key="a\0"), InvalidInput, ("idempotency_key",)),
    ],
)
async def test_what_can_not_be_run_is_refused_by_field_and_leaves_nothing(
    replica: Replica,
    owner: Principal,
    bus: MemoryBus,
    request_: CreateJobRequest,
    kind: type[ServiceError],
    path: tuple[str, ...],
) -> None:
    await replica.hear_of(HOSTED, IMAGES)

    with pytest.raises(kind) as refusal:
        await replica.jobs.create(owner, request_)

    assert path == refusal.value.path
    assert [0, 0, 0] == [await _count(replica.db, table) for table in ("jobs", "job_events", "outbox")]


async def test_files_that_no_one_pipeline_takes_are_refused_by_index(
    replica: Replica, owner: Principal, bus: MemoryBus, database: Database
) -> None:
    await replica.hear_of(HOSTED, IMAGES)
    picture = (await _upload(replica, owner, A_GIF)).id
    text = (await _upload(replica, owner, b"A text in a file.")).id
    sound = (await _upload(replica, owner, A_WAV)).id
    stranger = await make_user(database)
    foreign = (await _upload(replica, stranger, A_GIF)).id

    for file_ids, kind, path in (
        ([picture, picture, text], InvalidInput, ("file_ids", "2")),
        ([sound], UnsupportedMedia, ("file_ids", "0")),
        ([picture, foreign], NotFound, ("file_ids", "1")),
    ):
        with pytest.raises(kind) as refusal:
            await replica.jobs.create(owner, CreateJobRequest(file_ids=file_ids))
        assert path == refusal.value.path


async def test_without_a_worker_there_is_no_job(
    database: Database, bus: MemoryBus, objects: ObjectStore
) -> None:
    lonely = Replica(database, bus, objects)

    with pytest.raises(PipelineUnavailable):
        await lonely.jobs.create(await make_user(database), CreateJobRequest(texts=["one"]))


async def test_a_key_without_the_scope_creates_nothing(replica: Replica, owner: Principal) -> None:
    reader = Principal(
        user_id=owner.user_id,
        credential_id=owner.credential_id,
        kind=owner.kind,
        scopes=frozenset({Scope.READ, Scope.TRAIN}),
    )
    with pytest.raises(Forbidden):
        await replica.jobs.create(reader, CreateJobRequest(texts=["one"]))


async def test_the_same_key_and_request_give_the_same_job_even_once_its_pipeline_is_gone(
    replica: Replica, owner: Principal, bus: MemoryBus, objects: ObjectStore, database: Database
) -> None:
    request = CreateJobRequest(texts=["one"], idempotency_key="monday")
    job = await replica.jobs.create(owner, request)
    elsewhere = Replica(database, bus, objects)

    assert job == await elsewhere.jobs.create(owner, request)
    assert [1, 1] == [await _count(database, table) for table in ("jobs", "outbox")]


async def test_of_ten_requests_with_one_key_at_once_one_makes_the_job(
    replica: Replica, owner: Principal, objects: ObjectStore, database: Database
) -> None:
    request = CreateJobRequest(texts=["one"], idempotency_key="monday")

    jobs = await asyncio.gather(*(replica.jobs.create(owner, request) for _ in range(10)))

    assert 1 == len({job.id for job in jobs})
    assert [1, 1, 1] == [await _count(database, table) for table in ("jobs", "outbox", "job_events")]


@pytest.mark.parametrize(
    "other",
    [
        CreateJobRequest(texts=["two"], idempotency_key="monday"),
        CreateJobRequest(texts=["one", "one"], idempotency_key="monday"),
        CreateJobRequest(texts=["one"], pipeline=HOSTED.name, idempotency_key="monday"),
        CreateJobRequest(file_ids=[new_id()], idempotency_key="monday"),
    ],
)
async def test_a_key_stands_for_one_request(
    replica: Replica, owner: Principal, other: CreateJobRequest
) -> None:
    await replica.jobs.create(owner, CreateJobRequest(texts=["one"], idempotency_key="monday"))

    with pytest.raises(Conflict) as refusal:
        await replica.jobs.create(owner, other)
    assert ("idempotency_key",) == refusal.value.path


async def test_keys_of_two_users_have_nothing_to_do_with_each_other(
    replica: Replica, owner: Principal, database: Database
) -> None:
    request = CreateJobRequest(texts=["one"], idempotency_key="monday")
    stranger = await make_user(database)

    jobs = [await replica.jobs.create(user, request) for user in (owner, stranger)]

    assert [owner.user_id, stranger.user_id] == [job.user_id for job in jobs]


async def test_jobs_are_listed_newest_first_to_their_owner_alone(
    replica: Replica, owner: Principal, database: Database
) -> None:
    jobs = [await replica.create(owner, 1) for _ in range(3)]
    stranger = await make_user(database)
    await replica.create(stranger, 1)

    page = await replica.jobs.page(owner.user_id, PageRequest(first=2))
    rest = await replica.jobs.page(owner.user_id, PageRequest(first=2, after=page.cursors[-1]))

    assert ([jobs[2], jobs[1]], True) == (page.items, page.has_next)
    assert ([jobs[0]], False) == (rest.items, rest.has_next)
    with pytest.raises(NotFound):
        await replica.jobs.get(stranger.user_id, jobs[0].id)
    with pytest.raises(NotFound):
        await replica.jobs.result(stranger.user_id, jobs[0].id)


async def test_the_result_is_one_npy_file_in_input_order_with_nan_for_what_failed(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    job = await replica.create(owner, 70)
    claimed = await worker.claim(job.id)
    for chunk in reversed(range(35)):
        await worker.report(claimed, chunk, failed=[5] if chunk == 2 else [])
    await replica.projection.step()

    size, raw = await _download(replica, owner.user_id, job.id)

    assert size == len(raw)
    result: npt.NDArray[np.float32] = np.load(BytesIO(raw), allow_pickle=False)
    expected = np.stack([vector_of(index) for index in range(70)])
    expected[5] = np.nan
    assert ((70, DIMENSION), np.dtype("<f4")) == (result.shape, result.dtype)
    assert np.array_equal(expected, result, equal_nan=True)


async def test_there_is_no_result_before_the_end_nor_after_a_failure(
    replica: Replica, worker: Worker, owner: Principal
) -> None:
    running, failed = await replica.create(owner, 3), await replica.create(owner, 3)
    await worker.report(await worker.claim(running.id), 0)
    await worker.give_up(await worker.claim(failed.id), "It can't be done.")
    await replica.projection.step()

    for job in (running, failed):
        with pytest.raises(Conflict):
            await replica.jobs.result(owner.user_id, job.id)


async def test_a_store_that_fails_is_busy_and_takes_no_job(
    replica: Replica, owner: Principal, tmp_path: Path
) -> None:
    folder = tmp_path / "objects"
    folder.rename(tmp_path / "aside")
    folder.touch()

    with pytest.raises(Busy, match="object store"):
        await replica.create(owner, 2)
    with pytest.raises(Busy, match="object store"):
        await _upload(replica, owner, A_GIF)

    assert 0 == await _count(replica.db, "jobs")
