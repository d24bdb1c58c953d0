"""Who works on what in the lanes of long work."""

import asyncio
from uuid import UUID

import asyncpg
import msgspec
import pytest

from bus import subjects
from bus.errors import NoAnswer
from bus.memory import MemoryBus
from bus.messages import (
    ClaimWork,
    GenerationWork,
    LetGoWork,
    TrainingWork,
    ValidationWork,
    WorkClaimed,
    WorkRefused,
)
from bus.objects import ObjectStore
from server.auth.principal import Principal
from server.ids import model_id_of, new_id
from server.records import JobState
from tests.support.jobs import Replica, make_user
from tests.support.training_jobs import (
    SOURCE,
    DatasetRow,
    LaneWorker,
    Reports,
    add_dataset,
    add_generation,
    add_training,
    prepared,
    states,
)


@pytest.fixture
def worker(bus: MemoryBus, objects: ObjectStore) -> LaneWorker:
    """A train worker."""
    return LaneWorker(bus, objects)


@pytest.fixture
async def dataset(replica: Replica, owner: Principal) -> DatasetRow:
    """A data set that can be trained on."""
    return await add_dataset(replica.db, owner, is_ready=True)


async def _fall_silent(replica: Replica, job_id: UUID, *, for_s: float = 7) -> None:
    await replica.db.execute(
        "UPDATE jobs SET heartbeat_at = now() - make_interval(secs => {}::float8) WHERE id = {}",
        for_s,
        job_id,
    )


async def _order(worker: LaneWorker, token: UUID, count: int) -> list[UUID]:
    """Claim so many jobs with one message in hand."""
    answers = [await worker.ask(token) for _ in range(count)]
    assert all(isinstance(answer, WorkClaimed) for answer in answers)
    return [UUID(answer.job_id) for answer in answers]


async def test_a_training_is_given_with_all_a_worker_needs(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    job_id = await add_training(replica.db, owner, dataset)

    claimed = await worker.claim(job_id)

    assert (1, str(owner.user_id), 0) == (claimed.attempt, claimed.owner_id, claimed.num_lost)
    work = claimed.work
    assert isinstance(work, TrainingWork)
    assert ("my model", prepared(dataset.id)) == (work.spec.name, work.dataset)
    assert (str(model_id_of(job_id, 1)), None, None) == (work.model_id, work.checkpoint, work.parent)
    [row] = await replica.db.fetch(
        "SELECT state, attempt, worker_id, started_at, heartbeat_at, claimed_at FROM jobs"
        " JOIN lane_jobs ON job_id = id WHERE id = {}",
        job_id,
    )
    assert ("RUNNING", 1, "trainer-1") == (row["state"], row["attempt"], row["worker_id"])
    assert row["started_at"] == row["heartbeat_at"] == row["claimed_at"]


async def test_the_data_lane_gives_validations_and_generations(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    training = await add_training(replica.db, owner, dataset)
    made = Reports.of(await worker.claim(training))
    await worker.publish(made.model(1))
    await replica.projection.step()
    new = await add_dataset(replica.db, owner)
    generation = await add_generation(replica.db, owner, model_id_of(training, 1))

    first, second = [await worker.claim(job_id, "data") for job_id in (new.job_id, generation)]

    assert ValidationWork(dataset_id=str(new.id), name=f"mine {new.id}", source=SOURCE) == first.work
    assert isinstance(second.work, GenerationWork)
    assert (2, ["cat", "dog"]) == (second.work.spec.count, second.work.classes)
    assert f"models/{model_id_of(training, 1)}" == second.work.model.prefix


async def test_of_two_users_the_one_with_fifty_jobs_waits_for_the_other(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    other = await make_user(replica.db)
    many = [await add_training(replica.db, owner, dataset) for _ in range(50)]
    assert [many[0]] == await _order(worker, many[0], 1)
    few = [await add_training(replica.db, other, dataset) for _ in range(2)]

    # The other's first; then both have one at work, and it is longer ago that the first one had a turn.
    assert [few[0], many[1], few[1], many[2], many[3]] == await _order(worker, many[1], 5)


async def test_turns_count_when_nothing_is_at_work_any_more(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    other = await make_user(replica.db)
    ours = [await add_training(replica.db, owner, dataset) for _ in range(3)]
    theirs = [await add_training(replica.db, other, dataset) for _ in range(3)]

    turns = []
    for _ in range(6):
        [job_id] = await _order(worker, ours[0], 1)
        turns.append(job_id)
        await replica.db.execute("UPDATE jobs SET state = 'SUCCEEDED' WHERE id = {}", job_id)

    assert [ours[0], theirs[0], ours[1], theirs[1], ours[2], theirs[2]] == turns


async def test_a_user_orders_their_own_jobs_by_priority(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    other = await make_user(replica.db)
    priorities = (0, 5, -1, 5)
    ours = [await add_training(replica.db, owner, dataset, priority=one) for one in priorities]
    theirs = await add_training(replica.db, other, dataset, priority=-100)

    assert [ours[1], theirs, ours[3], ours[0], ours[2]] == await _order(worker, ours[0], 5)


async def test_a_job_whose_worker_is_dead_goes_first(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    other = await make_user(replica.db)
    jobs = [await add_training(replica.db, owner, dataset) for _ in range(3)]
    await _order(worker, jobs[0], 2)
    await add_training(replica.db, other, dataset, priority=100)
    await _fall_silent(replica, jobs[1], for_s=7)
    await _fall_silent(replica, jobs[0], for_s=8)

    answers = [await worker.ask(jobs[2]) for _ in range(2)]

    assert [(str(jobs[0]), 2, 1), (str(jobs[1]), 2, 1)] == [
        (answer.job_id, answer.attempt, answer.num_lost)
        for answer in answers
        if isinstance(answer, WorkClaimed)
    ]


async def test_the_same_question_asked_again_gets_the_same_answer(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    jobs = [await add_training(replica.db, owner, dataset) for _ in range(2)]
    question = ClaimWork(job_id=str(jobs[1]), lane="train", pool="default", worker_id="trainer-1")

    answers = await asyncio.gather(*(worker.ask_as(question) for _ in range(5)))

    plain = [msgspec.structs.replace(answer, id="", at=answers[0].at) for answer in answers]
    assert [plain[0]] * 5 == plain
    assert isinstance(answers[0], WorkClaimed)
    assert (str(jobs[0]), 1) == (answers[0].job_id, answers[0].attempt)
    assert {jobs[0]: "RUNNING", jobs[1]: "QUEUED"}.items() <= (await states(replica.db)).items()


async def test_of_twenty_claims_at_once_each_gets_another_job_or_none(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    jobs = [await add_training(replica.db, owner, dataset) for _ in range(12)]

    answers = await asyncio.gather(*(worker.ask(jobs[number % 12]) for number in range(20)))

    claimed = [answer.job_id for answer in answers if isinstance(answer, WorkClaimed)]
    assert sorted(map(str, jobs)) == sorted(claimed)
    refused = [answer.reason for answer in answers if isinstance(answer, WorkRefused)]
    assert ["later"] * 8 == refused
    assert 12 == replica.counted.total("towhee.work.claims", lane="train", outcome="claimed")
    assert 8 == replica.counted.total("towhee.work.claims", lane="train", outcome="later")


async def test_whether_a_message_is_needed_yet_hangs_on_its_own_job(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    running = await add_training(replica.db, owner, dataset)
    await worker.claim(running)
    waiting = await add_training(replica.db, owner, dataset, is_ready=False)
    over = await add_training(replica.db, owner, dataset)
    await replica.db.execute("UPDATE jobs SET state = 'CANCELLED' WHERE id = {}", over)

    reasons = []
    for job_id in (running, waiting, over, new_id(), "no-id"):
        answer = await worker.ask(job_id)
        assert isinstance(answer, WorkRefused)
        assert str(job_id) == answer.job_id
        reasons.append(answer.reason)

    assert ["later", "nothing", "nothing", "nothing", "nothing"] == reasons


async def test_a_job_that_somebody_has_in_hand_is_left_for_later(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow, database_url: str
) -> None:
    job_id = await add_training(replica.db, owner, dataset)
    somebody = await asyncpg.connect(database_url)

    async with somebody.transaction():
        await somebody.execute("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE", job_id)
        answer = await worker.ask(job_id)
    await somebody.close()

    assert isinstance(answer, WorkRefused)
    assert "later" == answer.reason
    assert 1 == (await worker.claim(job_id)).attempt


async def test_lanes_and_pools_are_apart(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    job_id = await add_training(replica.db, owner, dataset)

    for answer in (await worker.ask(job_id, "data"), await worker.ask(job_id, pool="other")):
        assert isinstance(answer, WorkRefused)
        assert "later" == answer.reason
    await worker.claim(job_id)


async def test_a_training_waits_for_a_data_set_that_is_not_ready(
    replica: Replica, worker: LaneWorker, owner: Principal
) -> None:
    dataset = await add_dataset(replica.db, owner)
    job_id = await add_training(replica.db, owner, dataset)

    answer = await worker.ask(job_id)

    assert isinstance(answer, WorkRefused)
    assert "QUEUED" == (await states(replica.db))[job_id]


@pytest.mark.parametrize("loss", ["spec = 'nonsense'::bytea", "parent_id = gen_random_uuid()"])
async def test_a_job_that_nobody_could_do_fails_and_the_next_one_has_its_turn(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow, loss: str
) -> None:
    hopeless, sound = [await add_training(replica.db, owner, dataset) for _ in range(2)]
    await replica.db.execute(f"UPDATE training_jobs SET {loss} WHERE job_id = {{}}", hopeless)  # noqa: S608 - of the test

    await worker.claim(sound)

    [row] = await replica.db.fetch("SELECT * FROM jobs WHERE id = {}", hopeless)
    assert ("FAILED", "INTERNAL") == (row["state"], row["error_code"])
    assert row["finished_at"] is not None


async def test_a_worker_that_leaves_lets_another_go_on_at_once(
    replica: Replica, worker: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    job_id = await add_training(replica.db, owner, dataset)
    claimed = await worker.claim(job_id)
    reports = Reports.of(claimed)
    await worker.publish(reports.progress(1), reports.checkpoint(2))

    assert "later" == await worker.let_go(claimed, 2)
    await replica.projection.step()
    assert ["done", "done"] == [await worker.let_go(claimed, 2) for _ in range(2)]

    [row] = await replica.db.fetch("SELECT * FROM jobs WHERE id = {}", job_id)
    assert ("QUEUED", [1], None, None) == (
        row["state"],
        row["let_go"],
        row["heartbeat_at"],
        row["worker_id"],
    )
    second = await worker.claim(job_id)
    assert (2, 0) == (second.attempt, second.num_lost)
    assert isinstance(second.work, TrainingWork)
    assert reports.checkpoint(2).checkpoint == second.work.checkpoint
    assert str(model_id_of(job_id, 2)) == second.work.model_id
    assert "superseded" == await worker.let_go(claimed, 2)


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (JobState.CANCELLING, "done"),
        (JobState.CANCELLED, "superseded"),
        (JobState.SUCCEEDED, "superseded"),
        (JobState.QUEUED, "superseded"),
    ],
)
async def test_a_worker_that_leaves_is_told_what_has_become_of_the_job(
    replica: Replica,
    worker: LaneWorker,
    owner: Principal,
    dataset: DatasetRow,
    state: JobState,
    verdict: str,
) -> None:
    job_id = await add_training(replica.db, owner, dataset)
    claimed = await worker.claim(job_id)
    await replica.db.execute("UPDATE jobs SET state = {} WHERE id = {}", state.value, job_id)

    assert verdict == await worker.let_go(claimed, 0)

    after = JobState.CANCELLED if verdict == "done" else state
    assert after == (await states(replica.db))[job_id]


async def test_nobody_can_let_go_what_never_was(worker: LaneWorker, replica: Replica) -> None:
    for job_id in (str(new_id()), "no-id"):
        claimed = WorkClaimed(
            job_id=job_id, attempt=1, owner_id="", work=ValidationWork(dataset_id="", name="", source=SOURCE)
        )
        assert "superseded" == await worker.let_go(claimed, 0)


async def test_a_question_of_another_kind_gets_no_answer_and_stops_nothing(
    replica: Replica, bus: MemoryBus, worker: LaneWorker, owner: Principal, dataset: DatasetRow
) -> None:
    job_id = await add_training(replica.db, owner, dataset)
    claim = ClaimWork(job_id=str(job_id), lane="train", pool="default", worker_id="confused")
    let_go = LetGoWork(job_id=str(job_id), attempt=1, num_reports=0, worker_id="confused")

    for subject, question in ((subjects.WORK_CLAIM, let_go), (subjects.WORK_LET_GO, claim)):
        with pytest.raises(NoAnswer):
            await bus.ask(subject, question, timeout_s=5)

    assert 1 == (await worker.claim(job_id)).attempt
