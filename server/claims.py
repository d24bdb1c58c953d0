"""Who works on which job. Workers ask over the bus; the attempt they get is the fence for all they report.

JetStream acknowledgements are no fence: a worker whose lease has run out can still acknowledge what another
one holds. So the database hands out the attempts, one at a time, and the projection drops what an older one
reports.
"""

import logging
from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec
from opentelemetry.metrics import Meter

from bus import subjects
from bus.envelope import Message
from bus.messages import (
    ClaimJob,
    ClaimSeveralJobs,
    DeployedModel,
    HeartbeatAnswered,
    HeartbeatJob,
    JobClaimed,
    JobClaimRefused,
    JobClaimsAnswered,
    JobSpec,
)
from bus.port import Bus, Subscription
from server.database import Database
from server.errors import ServiceError
from server.job_payloads import StateChanged, chunk_number, encode_payload, kind_of
from server.job_rows import (
    EMBEDDING,
    HEARTBEAT_WRITTEN_EVERY_S,
    NewEvent,
    append_events,
    parse_job_id,
)
from server.nudges import nudge
from server.records import JobState

_logger = logging.getLogger(__name__)

Refusal = Literal["cancelled", "finished", "unknown"]
Verdict = Literal["continue", "cancel", "superseded"]

_CANCELLED = {JobState.CANCELLING, JobState.CANCELLED}
_HELD = {JobState.RUNNING, JobState.CANCELLING}

_RUNNING = StateChanged(state=JobState.RUNNING)

# Round trips are most of what a small job costs. A first attempt has no earlier one's chunks to look for
# and nothing to say of one, so that all of it is one statement, for any number of jobs; a row that somebody
# else has in hand is left to `Claims._claim_any`, which waits for it.
_CLAIM_NEW = """
WITH free AS (
    SELECT id FROM jobs WHERE id = ANY({}::uuid[]) AND kind = {} AND state = {} AND attempt = 0
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE jobs SET attempt = 1, state = {}, worker_id = {}, claim_id = {}, heartbeat_at = now(),
        started_at = now(), last_seq = last_seq + 1
    FROM free WHERE jobs.id = free.id
    RETURNING jobs.id, last_seq
), told AS (
    INSERT INTO job_events (job_id, seq, attempt, kind, payload)
    SELECT id, last_seq, 1, {}, {}::bytea FROM taken
)
SELECT id, pipeline_name, inputs_key, item_count, chunk_size, model, last_seq
FROM taken JOIN embedding_jobs ON job_id = taken.id
"""

_Question = ClaimJob | ClaimSeveralJobs
_Answer = JobClaimed | JobClaimRefused


class Claims:
    """Answers claims and heartbeats in the queue group of all servers."""

    def __init__(self, db: Database, bus: Bus, *, meter: Meter) -> None:
        self._db = db
        self._bus = bus
        self._subscriptions: list[Subscription] = []
        self._claims = meter.create_counter("towhee.job.claims", description="Claims, by how they ended.")
        self._heartbeats = meter.create_counter(
            "towhee.job.heartbeats", description="Heartbeats of workers, by the verdict they got."
        )

    async def start(self) -> None:
        """Answer from now on."""
        for subject, responder in (
            (subjects.JOB_CLAIM, self._on_claim),
            (subjects.JOB_CLAIM_SEVERAL, self._on_several),
            (subjects.JOB_HEARTBEAT, self._on_heartbeat),
        ):
            self._subscriptions.append(await self._bus.answer(subject, responder, group=subjects.SERVERS))

    async def close(self) -> None:
        """Finish the answers under way and take no more questions."""
        while self._subscriptions:
            await self._subscriptions.pop().close()

    async def _on_claim(self, message: Message) -> Message:
        if not isinstance(message, ClaimJob):
            raise TypeError(f"{type(message).__name__} is no claim")
        return await self.claim(message)

    async def _on_heartbeat(self, message: Message) -> Message:
        if not isinstance(message, HeartbeatJob):
            raise TypeError(f"{type(message).__name__} is no heartbeat")
        return await self.heartbeat(message)

    async def _on_several(self, message: Message) -> Message:
        if not isinstance(message, ClaimSeveralJobs):
            raise TypeError(f"{type(message).__name__} is no claim of several jobs")
        return await self.claim_several(message)

    async def claim(self, claim: ClaimJob) -> _Answer:
        """Give the job to the worker that asks, under a new attempt number, whoever had it before.

        The very same question asked again gets the attempt that it got before, as long as nobody else has the
        job: its answer was late, and the worker knows of no other.
        """
        return await self._answer(claim.job_id, claim, await self._claim_new([claim.job_id], claim))

    async def claim_several(self, claim: ClaimSeveralJobs) -> JobClaimsAnswered:
        """Give each of the jobs to the worker as `claim` does, those that nobody has had in one statement."""
        new = await self._claim_new(claim.job_ids, claim)
        answers: list[_Answer] = []
        for job_id in claim.job_ids:
            try:
                answers.append(await self._answer(job_id, claim, new))
            except ServiceError as error:
                # The others are claimed already: an answer that never comes would cost each an attempt.
                _logger.warning("a claim of job %s is left unanswered: %s", job_id, error)
        return JobClaimsAnswered(
            claimed=[answer for answer in answers if isinstance(answer, JobClaimed)],
            refused=[answer for answer in answers if isinstance(answer, JobClaimRefused)],
        )

    async def _answer(self, name: str, claim: _Question, new: dict[UUID, dict[str, Any]]) -> _Answer:
        """Answer for one job; what `_claim_new` has claimed is taken out of ``new``."""
        job_id = parse_job_id(name)
        row = None if job_id is None else new.pop(job_id, None)
        if row is None:
            answer, seq = await self._claim_any(job_id, name, claim)
        else:
            answer, seq = JobClaimed(job_id=name, attempt=1, spec=_spec_of(row)), row["last_seq"]
        self._claims.add(1, {"outcome": "claimed" if isinstance(answer, JobClaimed) else answer.reason})
        if isinstance(answer, JobClaimed) and job_id is not None:
            _logger.info("job %s: attempt %d by %s", name, answer.attempt, claim.worker_id)
            await nudge(self._bus, job_id, seq)
        return answer

    async def _claim_new(self, names: Sequence[str], claim: _Question) -> dict[UUID, dict[str, Any]]:
        """Claim those of the jobs that nobody has had, in one round trip; return a row for each."""
        rows = await self._db.fetch(
            _CLAIM_NEW,
            [job_id for name in names if (job_id := parse_job_id(name)) is not None],
            EMBEDDING,
            JobState.QUEUED.value,
            JobState.RUNNING.value,
            claim.worker_id,
            claim.id,
            kind_of(_RUNNING),
            encode_payload(_RUNNING),
        )
        return {row["id"]: row for row in rows}

    async def _claim_any(self, job_id: UUID | None, name: str, claim: _Question) -> tuple[_Answer, int]:
        async with self._db.transaction():
            row = await self._take(job_id, claim)
            if row is not None:
                seq = await self._record_running(row)
            else:
                row = await self._find_held(job_id, claim)
                if row is None:
                    return JobClaimRefused(job_id=name, reason=await self._reason(job_id)), 0
                seq = row["last_seq"]
            answer = JobClaimed(
                job_id=name,
                attempt=row["attempt"],
                spec=await self._spec(row["id"]),
                done_chunks=await self._done_chunks(row["id"]),
                num_lost=max(0, row["num_lost"]),
            )
        return answer, seq

    async def heartbeat(self, heartbeat: HeartbeatJob) -> HeartbeatAnswered:
        """Note that the worker is at it, and say whether it should be."""
        verdict = await self._judge(parse_job_id(heartbeat.job_id), heartbeat.attempt)
        self._heartbeats.add(1, {"verdict": verdict})
        return HeartbeatAnswered(job_id=heartbeat.job_id, verdict=verdict)

    async def _take(self, job_id: UUID | None, claim: _Question) -> dict[str, Any] | None:
        return await self._db.fetch_one(
            "UPDATE jobs SET attempt = attempt + 1, state = {}, worker_id = {}, claim_id = {},"
            " heartbeat_at = now(), started_at = coalesce(started_at, now())"
            " WHERE id = {} AND kind = {} AND state IN ({}, {}) AND claim_id IS DISTINCT FROM {}"
            " RETURNING id, attempt, last_seq, attempt - 1 - cardinality(let_go) AS num_lost",
            JobState.RUNNING.value,
            claim.worker_id,
            claim.id,
            job_id,
            EMBEDDING,
            JobState.QUEUED.value,
            JobState.RUNNING.value,
            claim.id,
        )

    async def _find_held(self, job_id: UUID | None, claim: _Question) -> dict[str, Any] | None:
        """Find the attempt that this very question got before; the row is locked as `_take` does."""
        return await self._db.fetch_one(
            "SELECT id, attempt, last_seq, attempt - 1 - cardinality(let_go) AS num_lost FROM jobs"
            " WHERE id = {} AND kind = {} AND state = {} AND claim_id = {} FOR UPDATE",
            job_id,
            EMBEDDING,
            JobState.RUNNING.value,
            claim.id,
        )

    async def _record_running(self, row: dict[str, Any]) -> int:
        attempt = row["attempt"]
        reason = None if attempt == 1 else f"Attempt {attempt} has taken over."
        seq = await append_events(
            self._db,
            row["id"],
            attempt=attempt,
            after_seq=row["last_seq"],
            events=[NewEvent(payload=StateChanged(state=JobState.RUNNING, reason=reason))],
        )
        await self._db.execute("UPDATE jobs SET last_seq = {} WHERE id = {}", seq, row["id"])
        return seq

    async def _reason(self, job_id: UUID | None) -> Refusal:
        row = await self._db.fetch_one(
            "SELECT state FROM jobs WHERE id = {} AND kind = {}", job_id, EMBEDDING
        )
        if row is None:
            return "unknown"
        return "cancelled" if row["state"] in _CANCELLED else "finished"

    async def _spec(self, job_id: UUID) -> JobSpec:
        [row] = await self._db.fetch(
            "SELECT pipeline_name, inputs_key, item_count, chunk_size, model FROM embedding_jobs"
            " WHERE job_id = {}",
            job_id,
        )
        return _spec_of(row)

    async def _done_chunks(self, job_id: UUID) -> list[int]:
        # Under the lock that _take holds: no projection can add a chunk between this and the new attempt.
        rows = await self._db.fetch(
            "SELECT item_key FROM job_events WHERE job_id = {} AND item_key LIKE 'chunk:%'", job_id
        )
        return sorted(chunk_number(row["item_key"]) for row in rows)

    async def _judge(self, job_id: UUID | None, attempt: int) -> Verdict:
        row = await self._db.fetch_one(
            "SELECT state, attempt,"
            " heartbeat_at IS NULL OR heartbeat_at < now() - make_interval(secs => {}::float8) AS is_old"
            " FROM jobs WHERE id = {}",
            HEARTBEAT_WRITTEN_EVERY_S,
            job_id,
        )
        if row is not None and row["state"] == JobState.CANCELLED:
            return "cancel"
        if row is None or row["attempt"] != attempt or row["state"] not in _HELD:
            return "superseded"
        if row["is_old"]:
            await self._db.execute(
                "UPDATE jobs SET heartbeat_at = now() WHERE id = {} AND attempt = {}", job_id, attempt
            )
        return "continue" if row["state"] == JobState.RUNNING else "cancel"


def _spec_of(row: dict[str, Any]) -> JobSpec:
    return JobSpec(
        pipeline=row["pipeline_name"],
        inputs_key=row["inputs_key"],
        item_count=row["item_count"],
        chunk_size=row["chunk_size"],
        model=None if row["model"] is None else msgspec.msgpack.decode(row["model"], type=DeployedModel),
    )
