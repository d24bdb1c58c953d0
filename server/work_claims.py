"""Who works on what in the lanes of long work. Workers ask over the bus for the job that is next there.

Which one that is, is decided by one server at a time for each lane and pool, so that fairness is exact: first
a job whose worker has died, then the one whose owner has least at work, and has waited longest for a turn.
"""

import logging
from typing import Any, Literal
from uuid import UUID

import msgspec
from opentelemetry.metrics import Meter

from bus import subjects
from bus.envelope import Message
from bus.messages import ClaimWork, LetGoWork, WorkClaimed, WorkLetGo, WorkRefused
from bus.port import Bus, Subscription
from server.database import Database
from server.dataset_facts import LOOK_CANCELLED
from server.dataset_release import Released, give_up_dataset
from server.errors import ErrorCode
from server.job_rows import enter_state, parse_job_id, storable
from server.nudges import nudge
from server.records import JobState
from server.work_rows import CantBegin, read_work

_logger = logging.getLogger(__name__)

#: Heartbeats come every second and are written every two. Who was not heard of for this long is dead.
DEAD_AFTER_S = 6.0

_Answer = WorkClaimed | WorkRefused
_Verdict = Literal["done", "later", "superseded"]

_LOCK_LANE = "SELECT pg_advisory_xact_lock(hashtextextended({}, 5))"

_COLUMNS = """jobs.id, jobs.user_id, jobs.kind, jobs.attempt, jobs.last_seq,
    jobs.claim_id, cardinality(jobs.let_go) AS num_let_go"""

# The attempt that this very question got before.
_HELD = f"""
SELECT {_COLUMNS} FROM jobs JOIN lane_jobs ON lane_jobs.job_id = jobs.id
WHERE lane_jobs.lane = {{}} AND lane_jobs.pool = {{}} AND jobs.state = 'RUNNING' AND jobs.claim_id = {{}}
FOR UPDATE OF jobs
"""  # noqa: S608 - columns of ours
_ABANDONED = f"""
SELECT {_COLUMNS} FROM jobs JOIN lane_jobs ON lane_jobs.job_id = jobs.id
WHERE lane_jobs.lane = {{}} AND lane_jobs.pool = {{}} AND jobs.state = 'RUNNING'
AND jobs.heartbeat_at < now() - make_interval(secs => {{}}::float8)
ORDER BY jobs.heartbeat_at, jobs.id LIMIT 1 FOR UPDATE OF jobs SKIP LOCKED
"""  # noqa: S608 - columns of ours
# A user's turn is what the user has had in this lane and pool; a user who is new there comes first.
_NEXT = f"""
WITH at_work AS (
    SELECT jobs.user_id, count(*) AS num FROM jobs JOIN lane_jobs ON lane_jobs.job_id = jobs.id
    WHERE lane_jobs.lane = {{}} AND lane_jobs.pool = {{}} AND jobs.state = 'RUNNING'
    AND jobs.heartbeat_at >= now() - make_interval(secs => {{}}::float8) GROUP BY jobs.user_id
), waiting AS (
    SELECT jobs.id, jobs.user_id, lane_jobs.priority, jobs.created_at
    FROM jobs JOIN lane_jobs ON lane_jobs.job_id = jobs.id
    LEFT JOIN training_jobs ON training_jobs.job_id = jobs.id
    LEFT JOIN datasets ON datasets.id = training_jobs.dataset_id
    WHERE lane_jobs.lane = {{}} AND lane_jobs.pool = {{}} AND jobs.state = 'QUEUED' AND lane_jobs.is_ready
    AND (training_jobs.job_id IS NULL OR datasets.status = 'READY')
), turns AS (
    SELECT users.user_id, coalesce(at_work.num, 0) AS num_at_work, (
        SELECT max(claimed_at) FROM lane_jobs
        WHERE lane_jobs.lane = {{}} AND lane_jobs.pool = {{}} AND lane_jobs.user_id = users.user_id
    ) AS latest FROM (SELECT DISTINCT user_id FROM waiting) AS users LEFT JOIN at_work USING (user_id)
)
SELECT {_COLUMNS} FROM jobs JOIN waiting ON waiting.id = jobs.id
JOIN turns ON turns.user_id = waiting.user_id WHERE jobs.state = 'QUEUED'
ORDER BY turns.num_at_work, turns.latest NULLS FIRST, waiting.priority DESC, waiting.created_at, waiting.id
LIMIT 1 FOR UPDATE OF jobs SKIP LOCKED
"""  # noqa: S608 - columns of ours


class _Claimed(msgspec.Struct, kw_only=True):
    """What a claim has come to, and what there is to tell after the commit."""

    answer: _Answer
    #: Jobs with new history, by the newest row of it.
    told: dict[UUID, int] = msgspec.field(default_factory=dict)
    released: Released = msgspec.field(default_factory=Released)


class WorkClaims:
    """Answers claims of work, and workers that leave, in the queue group of all servers."""

    def __init__(self, db: Database, bus: Bus, *, meter: Meter) -> None:
        self._db = db
        self._bus = bus
        self._subscriptions: list[Subscription] = []
        self._claims = meter.create_counter(
            "towhee.work.claims", description="Claims in the lanes of long work, by lane and how they ended."
        )
        self._let_go = meter.create_counter(
            "towhee.work.let_go", description="Workers that let a job go, by the verdict they got."
        )

    async def start(self) -> None:
        """Answer from now on."""
        for subject, responder in (
            (subjects.WORK_CLAIM, self._on_claim),
            (subjects.WORK_LET_GO, self._on_let_go),
        ):
            self._subscriptions.append(await self._bus.answer(subject, responder, group=subjects.SERVERS))

    async def close(self) -> None:
        """Finish the answers under way and take no more questions."""
        while self._subscriptions:
            await self._subscriptions.pop().close()

    async def _on_claim(self, message: Message) -> Message:
        if not isinstance(message, ClaimWork):
            raise TypeError(f"{type(message).__name__} is no claim of work")
        return await self.claim(message)

    async def _on_let_go(self, message: Message) -> Message:
        if not isinstance(message, LetGoWork):
            raise TypeError(f"{type(message).__name__} is no word of a worker that leaves")
        return await self.let_go(message)

    async def claim(self, claim: ClaimWork) -> _Answer:
        """Give the worker the job that is next in its lane, under a new attempt number.

        The very same question asked again gets what it got before, as long as nobody else has that job.
        """
        async with self._db.transaction():
            # Its own statement: all that follows sees what the one before us has taken.
            await self._db.execute(_LOCK_LANE, f"{claim.lane}/{claim.pool}")
            claimed = await self._claim(claim)
        answer = claimed.answer
        outcome = "claimed" if isinstance(answer, WorkClaimed) else answer.reason
        self._claims.add(1, {"lane": claim.lane, "outcome": outcome})
        if isinstance(answer, WorkClaimed):
            _logger.info("job %s: given to %s", answer.job_id, claim.worker_id)
        for job_id, seq in (claimed.told | claimed.released.failed).items():
            await nudge(self._bus, job_id, seq)
        return answer

    async def _claim(self, claim: ClaimWork) -> _Claimed:
        told: dict[UUID, int] = {}
        released = Released()
        job = await self._db.fetch_one(_HELD, claim.lane, claim.pool, claim.id)
        while job is not None or (job := await self._next(claim)) is not None:
            if job["claim_id"] != claim.id:
                told[job["id"]] = job["last_seq"] = await self._take(job, claim)
            try:
                return _Claimed(answer=await self._answer(job), told=told, released=released)
            except CantBegin as error:
                # It would be next for ever, and nobody behind it had a turn.
                reason = storable(str(error))
                told[job["id"]] = await enter_state(
                    self._db, job, JobState.FAILED, reason, code=ErrorCode.INTERNAL
                )
                released.add(await give_up_dataset(self._db, job, reason))
            job = None
        refused = WorkRefused(job_id=claim.job_id, reason=await self._reason(parse_job_id(claim.job_id)))
        return _Claimed(answer=refused, told=told, released=released)

    async def _next(self, claim: ClaimWork) -> dict[str, Any] | None:
        lane = (claim.lane, claim.pool)
        abandoned = await self._db.fetch_one(_ABANDONED, *lane, DEAD_AFTER_S)
        if abandoned is not None:
            return abandoned
        return await self._db.fetch_one(_NEXT, *lane, DEAD_AFTER_S, *lane, *lane)

    async def _take(self, job: dict[str, Any], claim: ClaimWork) -> int:
        """Give a locked job to the worker; return the sequence number of the new row of its history."""
        job["attempt"] += 1
        attempt = job["attempt"]
        reason = None if attempt == 1 else f"Attempt {attempt} has taken over."
        seq = await enter_state(self._db, job, JobState.RUNNING, reason)
        await self._db.execute(
            "UPDATE jobs SET attempt = {}, worker_id = {}, claim_id = {}, heartbeat_at = now(),"
            " started_at = coalesce(started_at, now()) WHERE id = {}",
            attempt,
            claim.worker_id,
            claim.id,
            job["id"],
        )
        await self._db.execute(
            "UPDATE lane_jobs SET claimed_at = now(), last_number = 0 WHERE job_id = {}", job["id"]
        )
        return seq

    async def _answer(self, job: dict[str, Any]) -> WorkClaimed:
        return WorkClaimed(
            job_id=str(job["id"]),
            attempt=job["attempt"],
            owner_id=str(job["user_id"]),
            work=await read_work(self._db, job),
            num_lost=max(0, job["attempt"] - 1 - job["num_let_go"]),
        )

    async def _reason(self, job_id: UUID | None) -> Literal["nothing", "later"]:
        """Say whether the message of a job that was not to be had may be needed yet."""
        row = await self._db.fetch_one(
            "SELECT state, is_ready FROM jobs JOIN lane_jobs ON lane_jobs.job_id = jobs.id WHERE id = {}",
            job_id,
        )
        if row is None:
            return "nothing"
        is_needed = row["state"] == JobState.RUNNING or (row["state"] == JobState.QUEUED and row["is_ready"])
        return "later" if is_needed else "nothing"

    async def let_go(self, question: LetGoWork) -> WorkLetGo:
        """Let a job wait again whose worker leaves, once all is counted that it has reported."""
        verdict: _Verdict = "superseded"
        released = Released()
        async with self._db.transaction():
            row = await self._lock(parse_job_id(question.job_id))
            if row is not None:
                verdict = _verdict(row, question)
            if row is not None and verdict == "done" and row["state"] != JobState.QUEUED:
                released = await self._leave(row)
        self._let_go.add(1, {"verdict": verdict})
        if row is not None and verdict == "done":
            await nudge(self._bus, row["id"], row["last_seq"])
            for job_id, seq in released.failed.items():
                await nudge(self._bus, job_id, seq)
        return WorkLetGo(job_id=question.job_id, verdict=verdict)

    async def _lock(self, job_id: UUID | None) -> dict[str, Any] | None:
        row = await self._db.fetch_one(
            "SELECT id, kind, state, attempt, last_seq, let_go FROM jobs WHERE id = {} FOR UPDATE", job_id
        )
        # Once it is locked: how far its reports are counted was read under the same lock.
        lane = await self._db.fetch_one("SELECT last_number FROM lane_jobs WHERE job_id = {}", job_id)
        return None if row is None or lane is None else {**row, **lane}

    async def _leave(self, row: dict[str, Any]) -> Released:
        is_cancelled = row["state"] == JobState.CANCELLING
        state, reason = (
            (JobState.CANCELLED, "The worker has stopped.")
            if is_cancelled
            else (JobState.QUEUED, "Its worker leaves.")
        )
        row["last_seq"] = await enter_state(self._db, row, state, reason)
        await self._db.execute(
            "UPDATE jobs SET let_go = array_append(let_go, attempt), heartbeat_at = NULL, worker_id = NULL,"
            " claim_id = NULL WHERE id = {}",
            row["id"],
        )
        return await give_up_dataset(self._db, row, LOOK_CANCELLED) if is_cancelled else Released()


def _verdict(row: dict[str, Any], question: LetGoWork) -> _Verdict:
    """Judge what a worker that leaves asks about the locked row of a job."""
    if row["attempt"] != question.attempt or JobState(row["state"]).is_final:
        return "superseded"
    if row["state"] == JobState.QUEUED:
        # Asked again, for want of an answer.
        return "done" if question.attempt in row["let_go"] else "superseded"
    return "later" if row["last_number"] < question.num_reports else "done"
