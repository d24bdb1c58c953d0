"""What follows when all rows of a data set were looked at: the trainings that wait for it go on, or fail.

The database alone is written here, in the transaction of whoever knows the end; the caller tells of it after
its commit.
"""

from typing import Any
from uuid import UUID

import msgspec

from bus.messages import DatasetValidated, TrainingSpec
from server.database import Database
from server.dataset_facts import dataset_record, encode_facts, first_issue, unusable
from server.errors import ErrorCode
from server.job_rows import enter_state, storable
from server.lane_rows import DATASET, TRAINING, put_on_lane
from server.records import JobState
from server.training_fit import fit_problems
from server.training_records import DatasetRecord, DatasetStatus

#: Data sets whose trainings one sweep releases.
_BATCH = 32

# Both rows are locked: whoever waited for another release has to see what that one did.
_WAITING = """
SELECT jobs.id, jobs.attempt, jobs.last_seq, jobs.publish_number, lane_jobs.pool, training_jobs.spec
FROM training_jobs JOIN jobs ON jobs.id = training_jobs.job_id JOIN lane_jobs ON lane_jobs.job_id = jobs.id
WHERE training_jobs.dataset_id = {} AND jobs.state = 'QUEUED' AND NOT lane_jobs.is_ready
ORDER BY jobs.id FOR UPDATE OF jobs, lane_jobs
"""
_OVERLOOKED = """
SELECT datasets.* FROM datasets WHERE datasets.status != 'VALIDATING' AND EXISTS (
    SELECT 1 FROM training_jobs JOIN jobs ON jobs.id = training_jobs.job_id
    JOIN lane_jobs ON lane_jobs.job_id = jobs.id
    WHERE training_jobs.dataset_id = datasets.id AND jobs.state = 'QUEUED' AND NOT lane_jobs.is_ready
) ORDER BY datasets.id LIMIT {}
"""


class Released(msgspec.Struct, kw_only=True):
    """What there is to tell after the commit."""

    #: Trainings that are on their way to the bus.
    num_ready: int = 0
    #: Trainings that have failed, with the newest row of their history.
    failed: dict[UUID, int] = msgspec.field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.num_ready or self.failed)

    def add(self, other: "Released") -> None:
        """Take in what another data set has released."""
        self.num_ready += other.num_ready
        self.failed |= other.failed


async def settle_dataset(db: Database, job_id: UUID, facts: DatasetValidated) -> Released:
    """Write what a validation has found, and release the trainings that wait for it.

    A data set that was deleted meanwhile is passed over.
    """
    rows = await db.fetch(
        "UPDATE datasets SET status = {}, kind = {}, modality = {}, sha256 = {}, num_rows = {},"
        " classes = {}, class_counts = {}, num_unlabelled = {}, facts = {}, num_issues = {}"
        " WHERE job_id = {} RETURNING *",
        (DatasetStatus.INVALID if facts.dataset is None else DatasetStatus.READY).value,
        facts.kind,
        facts.modality,
        None if facts.dataset is None else facts.dataset.sha256,
        facts.num_rows,
        [storable(name) for name in facts.classes],
        facts.class_counts,
        facts.num_unlabelled,
        encode_facts(facts),
        facts.num_issues,
        job_id,
    )
    released = Released()
    for row in rows:
        released.add(await _release(db, row))
    return released


async def give_up_dataset(db: Database, row: dict[str, Any], reason: str) -> Released:
    """Do what follows when a job has ended without a result, where it is one that looks at a data set.

    Args:
        db: in the transaction that ends the job.
        row: the job's ``id``, ``kind`` and ``attempt``.
        reason: why, which becomes the issue of the data set.
    """
    if row["kind"] != DATASET:
        return Released()
    return await settle_dataset(db, row["id"], unusable(str(row["id"]), row["attempt"], reason))


async def release_overlooked(db: Database) -> Released:
    """Release trainings that were written in the very moment in which their data set was settled."""
    released = Released()
    async with db.transaction():
        for row in await db.fetch(_OVERLOOKED, _BATCH):
            released.add(await _release(db, row))
    return released


async def _release(db: Database, row: dict[str, Any]) -> Released:
    released = Released()
    waiting = await db.fetch(_WAITING, row["id"])
    if not waiting:
        return released
    dataset = dataset_record(row)
    for job in waiting:
        reason = _reason_against(job["spec"], dataset)
        if reason is not None:
            seq = await enter_state(db, job, JobState.FAILED, reason, code=ErrorCode.DATASET_INVALID)
            released.failed[job["id"]] = seq
            continue
        await db.execute("UPDATE lane_jobs SET is_ready = true WHERE job_id = {}", job["id"])
        await put_on_lane(
            db, job["id"], kind=TRAINING, pool=job["pool"], publish_number=job["publish_number"]
        )
        released.num_ready += 1
    return released


def _reason_against(spec: bytes, dataset: DatasetRecord) -> str | None:
    if dataset.status is not DatasetStatus.READY:
        return storable(first_issue(dataset))
    try:
        parameters = msgspec.msgpack.decode(spec, type=TrainingSpec).parameters
    except msgspec.DecodeError:
        # The claim says so, of that training alone.
        return None
    problems = fit_problems(parameters, dataset)
    return storable(" ".join(problem.message for problem in problems)) if problems else None
