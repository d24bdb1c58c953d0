"""What an operator can do about jobs that were given up: look at them, put them back, forget them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from bus import codec
from bus.dead_letters import DeadLetter, NoSuchLetter
from bus.errors import MalformedMessage, UnknownMessage
from bus.port import Bus
from server.database import Database
from server.errors import Conflict, ErrorCode, NotFound
from server.job_payloads import StateChanged
from server.job_rows import JobCommand, NewEvent, add_to_outbox, append_events, parse_job_id
from server.lane_rows import DATASET, command_of
from server.nudges import nudge
from server.records import JobState, Record
from server.training_records import DatasetStatus

_ENDED = (JobState.SUCCEEDED, JobState.CANCELLED, JobState.CANCELLING)
#: A job that processes died of starts again as one that two attempts were lost on: alone.
_STILL_LOST = 2


class DeadJobRecord(Record, frozen=True):
    """A dead letter, and the job it is about where it is about one."""

    id: int
    at: datetime
    subject: str
    job_id: UUID | None
    #: None where there is no such job any more.
    state: JobState | None
    code: str
    reason: str
    attempt: int
    num_delivered: int


class DeadJobs:
    """Reads the dead letters of the bus and what the database knows about them."""

    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._bus = bus

    async def read(self, *, after: int = 0, limit: int = 100) -> list[DeadJobRecord]:
        """Return dead letters with a larger id than ``after``, oldest first."""
        letters = await self._bus.dead_letters.read(after=after, limit=limit)
        jobs = {letter.id: _job_of(letter) for letter in letters}
        rows = await self._db.fetch(
            "SELECT id, state FROM jobs WHERE id = ANY({}::uuid[])",
            [job_id for job_id in jobs.values() if job_id is not None],
        )
        states: dict[UUID | None, JobState] = {row["id"]: JobState(row["state"]) for row in rows}
        return [
            DeadJobRecord(
                id=letter.id,
                at=letter.at,
                subject=letter.subject,
                job_id=jobs[letter.id],
                state=states.get(jobs[letter.id]),
                code=letter.code,
                reason=letter.reason,
                attempt=letter.attempt,
                num_delivered=letter.num_delivered,
            )
            for letter in letters
        ]

    async def retry(self, letter_id: int) -> str:
        """Publish again what was given up, and return a sentence on what was done.

        A job that has failed waits again, under a new publish number; every other message is published as
        it was. The letter is dropped afterwards.

        Raises:
            NotFound: no such letter, or its job was deleted.
            Conflict: its job has ended otherwise, or is to end.
        """
        letter = await self._get(letter_id)
        job_id = _job_of(letter)
        if job_id is None:
            await self._bus.dead_letters.send_again(letter)
            done = f"published again on {letter.subject}"
        else:
            done = f"job {job_id} is published again under number {await self._put_back(job_id, letter)}"
        await self._bus.dead_letters.drop(letter_id)
        return done

    async def drop(self, letter_id: int) -> str:
        """Forget a letter, and return a sentence on what it was. A failed job stays failed.

        Raises:
            NotFound: no such letter.
        """
        letter = await self._get(letter_id)
        await self._bus.dead_letters.drop(letter_id)
        return f"dropped what was published on {letter.subject}"

    async def _get(self, letter_id: int) -> DeadLetter:
        try:
            return await self._bus.dead_letters.get(letter_id)
        except NoSuchLetter as error:
            raise NotFound(f"There is no dead job {letter_id}.") from error

    async def _put_back(self, job_id: UUID, letter: DeadLetter) -> int:
        async with self._db.transaction():
            row = await self._db.fetch_one(
                "SELECT id, kind, state, attempt, publish_number, last_seq, error_code FROM jobs"
                " WHERE id = {} FOR UPDATE",
                job_id,
            )
            if row is None:
                raise NotFound(f"Job {job_id} was deleted: drop {letter.id}.")
            if row["state"] in _ENDED:
                raise Conflict(f"Job {job_id} is {row['state']}: drop {letter.id}.")
            if row["state"] == JobState.FAILED:
                row["last_seq"] = await self._reopen(row)
            number: int = row["publish_number"] + 1
            await self._db.execute("UPDATE jobs SET publish_number = {} WHERE id = {}", number, job_id)
            await add_to_outbox(self._db, letter.subject, command_of(row["kind"], job_id, number))
        await nudge(self._bus, job_id, row["last_seq"])
        return number

    async def _reopen(self, row: dict[str, Any]) -> int:
        """Let a failed job wait again; return the sequence number of its newest row of history."""
        queued = StateChanged(state=JobState.QUEUED, reason="Put back by an operator.")
        seq = await append_events(
            self._db,
            row["id"],
            attempt=row["attempt"],
            after_seq=row["last_seq"],
            events=[NewEvent(payload=queued)],
        )
        num_lost = _STILL_LOST if row["error_code"] == ErrorCode.INTERNAL else 0
        await self._db.execute(
            "UPDATE jobs SET state = {}, last_seq = {}, finished_at = NULL, heartbeat_at = NULL,"
            " error_code = NULL, error_message = NULL,"
            " let_go = ARRAY(SELECT generate_series(1, attempt - {}::integer)) WHERE id = {}",
            JobState.QUEUED.value,
            seq,
            num_lost,
            row["id"],
        )
        if row["kind"] == DATASET:
            await self._db.execute(
                "UPDATE datasets SET status = {} WHERE job_id = {}", DatasetStatus.VALIDATING.value, row["id"]
            )
        return seq


def _job_of(letter: DeadLetter) -> UUID | None:
    """Return the job whose command the letter is; None of every other message."""
    try:
        message = codec.decode(letter.raw)
    except (MalformedMessage, UnknownMessage):
        return None
    return parse_job_id(message.job_id) if isinstance(message, JobCommand) else None
