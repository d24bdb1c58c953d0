"""Trainings that have ended go on: from their last checkpoint, and with other limits if they are given."""

from typing import Any
from uuid import UUID

import msgspec

from bus.messages import TrainingSpec
from bus.port import Bus
from server.database import Database
from server.dataset_rows import find_dataset, hold_dataset, invalid_dataset
from server.errors import Conflict, JobFinished, NotFound
from server.field_problems import FieldProblem, InvalidParameters
from server.job_payloads import StateChanged
from server.job_rows import NewEvent, append_events
from server.lane_rows import TRAINING, put_on_lane
from server.model_rows import hold_model
from server.nudges import nudge
from server.records import JobState
from server.training_records import DatasetStatus
from server.training_requests import limit_problems
from server.training_rows import TRAININGS, TRAININGS_OF_USER, training_spec

_REASON = "Resumed by its owner."

# Attempts that were lost before do not count any more: all of them are as good as let go. The question that
# the last attempt answered must not get it again.
_REOPEN = """
UPDATE jobs SET state = {}, last_seq = {}, publish_number = {}, finished_at = NULL, heartbeat_at = NULL,
    error_code = NULL, error_message = NULL, claim_id = NULL,
    let_go = ARRAY(SELECT generate_series(1, attempt))
WHERE id = {}
"""


class ResumeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a training gets anew; None leaves it as it was. ``ceiling_s`` is what ``max_seconds`` may be."""

    max_steps: int | None
    max_seconds: int | None
    ceiling_s: int


class TrainingResumption:
    """Puts trainings that have ended on their lane again."""

    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._bus = bus

    async def resume(self, user_id: UUID, job_id: UUID, limits: ResumeLimits) -> None:
        """Let a training that was cancelled or has failed go on; one that has succeeded with more steps.

        Raises:
            NotFound: no such training, or somebody else's (path ``job_id``).
            Conflict: it has not ended, or what it needs has been deleted (path ``job_id``).
            JobFinished: it has succeeded, and no more steps were asked for (path ``job_id``).
            InvalidParameters: a limit is out of range, or it is there already (path ``max_steps``).
            DatasetInvalid: the data set has turned out to be INVALID (path ``dataset_id``).
        """
        async with self._db.transaction():
            row = await self._find(user_id, job_id)
            # The data set before the job: in the order in which it is found out what is in it.
            status = await hold_dataset(self._db, user_id, row["dataset_id"])
            row = await self._find(user_id, job_id, for_update=True)
            _check(row, limits)
            await self._check_needs(row, status)
            seq = await self._reopen(row, limits, is_ready=status is DatasetStatus.READY)
        await nudge(self._bus, job_id, seq)

    async def _find(self, user_id: UUID, job_id: UUID, *, for_update: bool = False) -> dict[str, Any]:
        row = await self._db.fetch_one(
            f"SELECT * FROM {TRAININGS} JOIN lane_jobs ON lane_jobs.job_id = jobs.id"  # noqa: S608 - SQL of ours
            f" WHERE {TRAININGS_OF_USER} AND jobs.id = {{}}" + (" FOR UPDATE OF jobs" if for_update else ""),
            user_id,
            job_id,
        )
        if row is None:
            raise NotFound("There is no such job.", path=("job_id",))
        return row

    async def _check_needs(self, row: dict[str, Any], status: DatasetStatus | None) -> None:
        """Make sure that the data set and the model it began with are there, and stay."""
        dataset = await find_dataset(self._db, row["user_id"], row["dataset_id"])
        if status is None or dataset is None:
            raise Conflict("The data set of the job has been deleted.", path=("job_id",))
        if status is DatasetStatus.INVALID:
            raise invalid_dataset(dataset)
        parent_id = row["parent_id"]
        if parent_id is not None and not await hold_model(self._db, row["user_id"], parent_id):
            raise Conflict("The model that the job began with has been deleted.", path=("job_id",))

    async def _reopen(self, row: dict[str, Any], limits: ResumeLimits, *, is_ready: bool) -> int:
        """Write everything that makes the locked job wait again; return its newest row of history."""
        job_id: UUID = row["id"]
        number = row["publish_number"] + 1
        seq = await append_events(
            self._db,
            job_id,
            attempt=row["attempt"],
            after_seq=row["last_seq"],
            events=[NewEvent(payload=StateChanged(state=JobState.QUEUED, reason=_REASON))],
        )
        await self._db.execute(_REOPEN, JobState.QUEUED.value, seq, number, job_id)
        await self._db.execute("UPDATE lane_jobs SET is_ready = {} WHERE job_id = {}", is_ready, job_id)
        spec = _with_limits(training_spec(row), limits)
        await self._db.execute(
            "UPDATE training_jobs SET spec = {}, total_steps = {}, eta_s = NULL WHERE job_id = {}",
            msgspec.msgpack.encode(spec),
            row["total_steps"] if spec.max_steps is None else spec.max_steps,
            job_id,
        )
        if is_ready:
            await put_on_lane(self._db, job_id, kind=TRAINING, pool=row["pool"], publish_number=number)
        return seq


def _check(row: dict[str, Any], limits: ResumeLimits) -> None:
    state = JobState(row["state"])
    if not state.is_final:
        raise Conflict(f"The job has not ended: it is {state}.", path=("job_id",))
    if state is JobState.SUCCEEDED and limits.max_steps is None:
        raise JobFinished("The job has succeeded. Give more max_steps to go on.", path=("job_id",))
    problems = [
        *limit_problems(
            max_steps=limits.max_steps, max_seconds=limits.max_seconds, ceiling_s=limits.ceiling_s
        )
    ]
    if not problems and limits.max_steps is not None and limits.max_steps <= row["step"]:
        message = f"max_steps must be more than {row['step']:,}, where the job is already."
        problems.append(FieldProblem(path=("max_steps",), message=message))
    if problems:
        raise InvalidParameters(tuple(problems))


def _with_limits(spec: TrainingSpec, limits: ResumeLimits) -> TrainingSpec:
    return msgspec.structs.replace(
        spec,
        max_steps=spec.max_steps if limits.max_steps is None else limits.max_steps,
        max_seconds=spec.max_seconds if limits.max_seconds is None else limits.max_seconds,
    )
