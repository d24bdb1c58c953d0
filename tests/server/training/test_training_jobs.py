"""Trainings: what is refused before they are queued, and what is written when they are."""

import asyncio

import msgspec
import pytest

from bus.messages import GanParameters, TrainingSpec
from server.auth.principal import Principal, Scope
from server.errors import Busy, Conflict, DatasetInvalid, Forbidden, InvalidInput, NotFound, QuotaExceeded
from server.field_problems import InvalidParameters
from server.ids import new_id
from server.job_payloads import StateChanged
from server.records import JobState, PageRequest
from server.training_jobs import StartTrainingRequest
from server.training_records import DatasetRecord, TrainerKind
from tests.support.embedding import MakePrincipal
from tests.support.training_rows import INVALID, MAX_JOBS, MAX_TRAININGS, House, train_subject, training


async def _spec(house: House, job_id: object) -> TrainingSpec:
    row = await house.db.fetch_one("SELECT spec FROM training_jobs WHERE job_id = {}", job_id)
    assert row is not None
    return msgspec.msgpack.decode(row["spec"], type=TrainingSpec)


async def test_a_training_on_a_ready_data_set_waits_on_its_lane(house: House, principal: Principal) -> None:
    dataset = await house.ready(principal)

    job = await house.train(
        principal, dataset, parameters={"epochs": 3}, seed=7, max_steps=500, max_seconds=60, priority=2
    )

    assert (JobState.QUEUED, TrainerKind.GAN, "first", dataset.id, 7, 0, 500) == (
        job.state,
        job.trainer,
        job.name,
        job.dataset_id,
        job.seed,
        job.step,
        job.total_steps,
    )
    assert TrainingSpec(
        name="first", parameters=GanParameters(epochs=3), seed=7, max_steps=500, max_seconds=60
    ) == await _spec(house, job.id)
    assert [(train_subject(job.id), f"{job.id}:1")] == await house.published(job.id)
    [lane] = await house.db.fetch("SELECT priority, is_ready FROM lane_jobs WHERE job_id = {}", job.id)
    assert {"priority": 2, "is_ready": True} == lane


async def test_a_seed_is_drawn_and_kept_and_the_time_has_a_ceiling(
    house: House, principal: Principal
) -> None:
    first, second = await house.train(principal), await house.train(principal)

    spec = await _spec(house, first.id)

    assert first.seed != second.seed
    assert (first.seed, 1000, None) == (spec.seed, spec.max_seconds, spec.max_steps)


async def test_a_training_on_a_data_set_that_is_being_looked_at_waits_off_the_lane(
    house: House, principal: Principal
) -> None:
    dataset = await house.dataset(principal)
    before = house.num_woken

    job = await house.train(principal, dataset)

    [lane] = await house.db.fetch("SELECT is_ready FROM lane_jobs WHERE job_id = {}", job.id)
    assert (JobState.QUEUED, False, []) == (job.state, lane["is_ready"], await house.published(job.id))
    assert before + 1 == house.num_woken


async def test_a_data_set_that_becomes_ready_in_between_strands_no_training(
    house: House, principal: Principal
) -> None:
    """Whichever comes first, the training is either published, or seen by whoever found the rows good."""

    async def find_ready(dataset: DatasetRecord) -> list[object]:
        async with house.db.transaction():
            await house.validate(dataset)
            rows = await house.db.fetch(
                "SELECT job_id FROM training_jobs JOIN lane_jobs USING (job_id)"
                " WHERE dataset_id = {} AND NOT is_ready",
                dataset.id,
            )
            return [row["job_id"] for row in rows]

    for number in range(8):
        dataset = await house.dataset(principal, f"number {number}")

        job, seen = await asyncio.gather(house.train(principal, dataset), find_ready(dataset))

        is_published = bool(await house.published(job.id))
        assert ([] if is_published else [job.id]) == seen


async def test_a_training_that_looked_at_a_validating_data_set_looks_again_when_it_is_ready(
    house: House, principal: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the rows of the training, the data set becomes READY, for ever too small."""
    dataset = await house.dataset(principal)
    write = house.jobs._write

    async def late(draft: object) -> bool:
        await house.validate(dataset, num_rows=3, splits=[])
        return await write(draft)  # type: ignore[arg-type]

    monkeypatch.setattr(house.jobs, "_write", late)

    with pytest.raises(InvalidParameters) as refused:
        await house.jobs.start(principal, training(dataset.id))

    assert ("trainer", "gan", "batch_size") in [problem.path for problem in refused.value.problems]


async def test_everything_that_is_wrong_is_said_at_once(house: House, principal: Principal) -> None:
    dataset = await house.ready(principal)
    request = training(
        dataset.id,
        name="",
        parameters={"epochs": 0, "loss": "none", "no_such": 1},
        seed=-1,
        max_steps=0,
        max_seconds=1001,
        priority=11,
    )

    with pytest.raises(InvalidParameters) as refused:
        await house.jobs.start(principal, request)

    assert [
        ("name",),
        ("seed",),
        ("max_steps",),
        ("max_seconds",),
        ("priority",),
        ("trainer", "gan", "epochs"),
        ("trainer", "gan", "loss"),
        ("trainer", "gan", "no_such"),
    ] == [problem.path for problem in refused.value.problems]
    assert ("name",) == refused.value.path
    assert all(problem.message.endswith(".") for problem in refused.value.problems)


async def test_mistakes_of_the_request_come_with_what_does_not_fit_the_data(
    house: House, principal: Principal
) -> None:
    texts = await house.ready(principal, kind="texts", modality="TEXT")

    with pytest.raises(InvalidParameters) as refused:
        await house.jobs.start(principal, training(texts.id, seed=2**31, parameters={"batch_size": 500}))

    assert [("seed",), ("dataset_id",), ("trainer", "gan", "batch_size")] == [
        problem.path for problem in refused.value.problems
    ]


async def test_an_invalid_data_set_is_refused_with_its_first_issue(
    house: House, principal: Principal
) -> None:
    dataset = await house.ready(principal, **INVALID)

    with pytest.raises(DatasetInvalid, match=r"Row 3: There is no text\.") as refused:
        await house.jobs.start(principal, training(dataset.id))

    assert ("dataset_id",) == refused.value.path


async def test_an_unknown_data_set_is_not_found(house: House, principal: Principal) -> None:
    with pytest.raises(NotFound) as refused:
        await house.jobs.start(principal, training(new_id()))

    assert ("dataset_id",) == refused.value.path


async def test_a_key_without_the_scope_trains_nothing(house: House, make_principal: MakePrincipal) -> None:
    with pytest.raises(Forbidden):
        await house.jobs.start(await make_principal(Scope.EMBED), training(new_id()))


async def test_a_hundred_parallel_starts_with_one_key_make_one_job(
    house: House, principal: Principal
) -> None:
    dataset = await house.ready(principal)
    request = training(dataset.id, idempotency_key="once")

    jobs = await asyncio.gather(*(house.jobs.start(principal, request) for _ in range(100)))

    assert 1 == len({job.id for job in jobs})
    [counted] = await house.db.fetch(
        "SELECT count(*) AS jobs, (SELECT count(*) FROM training_jobs) AS trainings,"
        " (SELECT count(*) FROM outbox WHERE subject LIKE 'job.train.%') AS published"
        " FROM jobs WHERE kind = 'TRAINING'"
    )
    assert {"jobs": 1, "trainings": 1, "published": 1} == counted


async def test_one_key_is_for_one_request(house: House, principal: Principal, stranger: Principal) -> None:
    dataset, theirs = await house.ready(principal), await house.ready(stranger)
    job = await house.jobs.start(principal, training(dataset.id, idempotency_key="k"))
    defaults = {"epochs": GanParameters().epochs}

    same = await house.jobs.start(principal, training(dataset.id, idempotency_key="k", parameters=defaults))
    other = await house.jobs.start(stranger, training(theirs.id, idempotency_key="k"))
    with pytest.raises(Conflict) as refused:
        await house.jobs.start(principal, training(dataset.id, idempotency_key="k", seed=1))
    with pytest.raises(InvalidInput) as unprintable:
        await house.jobs.start(principal, training(dataset.id, idempotency_key="\0"))

    assert (job.id, ("idempotency_key",)) == (same.id, refused.value.path)
    assert job.id != other.id
    assert ("idempotency_key",) == unprintable.value.path


async def test_a_key_answers_also_when_the_data_set_has_gone(house: House, principal: Principal) -> None:
    dataset = await house.ready(principal)
    request = training(dataset.id, idempotency_key="k")
    job = await house.jobs.start(principal, request)
    await house.end(job.id, JobState.SUCCEEDED)
    await house.datasets.delete(principal, dataset.id)

    assert job.id == (await house.jobs.start(principal, request)).id


async def test_a_user_has_so_many_unfinished_trainings_and_no_more(
    house: House, principal: Principal, stranger: Principal
) -> None:
    dataset = await house.ready(principal)
    jobs = [await house.train(principal, dataset) for _ in range(MAX_TRAININGS)]

    with pytest.raises(QuotaExceeded):
        await house.train(principal, dataset)
    await house.train(stranger)
    await house.end(jobs[0].id, JobState.FAILED)
    await house.train(principal, dataset)


async def test_too_many_unfinished_jobs_of_all_kinds_are_too_many(house: House, principal: Principal) -> None:
    dataset = await house.ready(principal)
    for _ in range(MAX_JOBS):
        await house.db.execute(
            "INSERT INTO jobs (id, user_id, kind, state, last_seq) VALUES ({}, {}, 'EMBEDDING', 'QUEUED', 1)",
            new_id(),
            principal.user_id,
        )

    with pytest.raises(Busy):
        await house.train(principal, dataset)


async def test_a_training_begins_with_a_model_of_its_own_kind(house: House, principal: Principal) -> None:
    dataset = await house.ready(principal)
    parent = await house.model(principal)

    job = await house.train(principal, dataset, parent_model_id=parent)
    with pytest.raises(InvalidParameters) as other_kind:
        await house.train(
            principal, dataset, trainer=TrainerKind.AUTOENCODER, parent_model_id=parent, name="second"
        )
    with pytest.raises(NotFound) as unknown:
        await house.train(principal, dataset, parent_model_id=new_id())

    [row] = await house.db.fetch("SELECT parent_id FROM training_jobs WHERE job_id = {}", job.id)
    assert parent == row["parent_id"]
    assert ("parent_model_id",) == other_kind.value.path == unknown.value.path


async def test_trainings_are_found_newest_first_with_the_model_they_made(
    house: House, principal: Principal
) -> None:
    dataset = await house.ready(principal)
    first, second = (
        await house.train(principal, dataset),
        await house.train(principal, dataset, name="second"),
    )
    await house.model(principal, first)
    newest = await house.model(principal, first)

    page = await house.jobs.page(principal.user_id, PageRequest(first=10))

    assert [second.id, first.id] == [job.id for job in page.items]
    assert [None, newest] == [job.model_id for job in page.items]
    assert JobState.SUCCEEDED == (await house.jobs.get(principal.user_id, first.id)).state


async def test_a_sample_is_the_object_that_a_row_of_history_names(house: House, principal: Principal) -> None:
    job = await house.train(principal)
    key = f"jobs/{job.id}/samples/1-2.png"
    await house.objects.put(key, b"a picture")
    payload = {"step": 5, "name": "grid", "media_type": "image/png", "object_key": key, "byte_size": 9}
    await house.db.execute(
        "INSERT INTO job_events (job_id, seq, attempt, kind, payload)"
        " VALUES ({}, 2, 1, 'samples_generated', {})",
        job.id,
        msgspec.msgpack.encode(payload),
    )

    media_type, chunks = await house.jobs.sample(principal.user_id, job.id, 2)

    assert ("image/png", b"a picture") == (media_type, b"".join([chunk async for chunk in chunks]))
    for seq in (1, 3, -1, 2**80):
        with pytest.raises(NotFound):
            await house.jobs.sample(principal.user_id, job.id, seq)


async def test_the_history_of_a_training_begins_with_its_wait(house: House, principal: Principal) -> None:
    job = await house.train(principal)

    [row] = await house.db.fetch("SELECT seq, attempt, payload FROM job_events WHERE job_id = {}", job.id)

    assert (1, 0) == (row["seq"], row["attempt"])
    assert StateChanged(state=JobState.QUEUED) == msgspec.msgpack.decode(row["payload"], type=StateChanged)


def test_a_request_needs_no_hyper_parameter() -> None:
    request = StartTrainingRequest(name="a", dataset_id=new_id(), trainer=TrainerKind.RNN, parameters={})

    assert 0 == request.priority
