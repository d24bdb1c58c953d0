"""SQL of the projection: many jobs in a few round trips, which are most of what a small job costs."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from bus.messages import ItemsEmbedded
from server.database import Database
from server.job_payloads import chunk_key, encode_payload, kind_of
from server.job_rows import EMBEDDING, lock_job_rows
from server.job_tally import JobTally, Report
from server.records import JobState

_WRITE = """
WITH told AS (
    INSERT INTO job_events (job_id, seq, attempt, kind, item_key, payload)
    SELECT * FROM unnest({}::uuid[], {}::bigint[], {}::integer[], {}::text[], {}::text[], {}::bytea[])
), counted AS (
    UPDATE embedding_jobs SET completed_count = new.completed_count, failed_count = new.failed_count
    FROM unnest({}::uuid[], {}::integer[], {}::integer[]) AS new (job_id, completed_count, failed_count)
    WHERE embedding_jobs.job_id = new.job_id
)
UPDATE jobs SET state = new.state, last_seq = new.last_seq, error_code = new.error_code,
    error_message = new.error_message, heartbeat_at = now(),
    finished_at = CASE WHEN new.is_final THEN now() END
FROM unnest({}::uuid[], {}::text[], {}::bigint[], {}::text[], {}::text[], {}::boolean[])
    AS new (id, state, last_seq, error_code, error_message, is_final)
WHERE jobs.id = new.id
"""


async def lock_jobs(db: Database, job_ids: Collection[str]) -> dict[str, JobTally]:
    """Lock the rows of these jobs, always in the same order, and return those that embed."""
    rows = [row for row in await lock_job_rows(db, job_ids) if row.pop("kind") == EMBEDDING]
    counts = await db.fetch(
        "SELECT job_id, item_count, chunk_size, dimension, completed_count, failed_count"
        " FROM embedding_jobs WHERE job_id = ANY({}::uuid[])",
        [row["id"] for row in rows],
    )
    counts_of = {row.pop("job_id"): row for row in counts}
    tallies = {
        row["id"]: JobTally(**{**row, **counts_of[row["id"]], "state": JobState(row["state"])})
        for row in rows
    }
    return {str(job_id): job for job_id, job in tallies.items()}


async def find_done(db: Database, by_job: Mapping[UUID, Sequence[Report]]) -> dict[UUID, set[str]]:
    """Return which of the reported items are in the history already, for jobs that are locked."""
    done: dict[UUID, set[str]] = {job_id: set() for job_id in by_job}
    keys = [
        (job_id, chunk_key(report.chunk))
        for job_id, reports in by_job.items()
        for report in reports
        if isinstance(report, ItemsEmbedded)
    ]
    if keys:
        rows = await db.fetch(
            "SELECT job_id, item_key FROM job_events"
            " WHERE (job_id, item_key) IN (SELECT * FROM unnest({}::uuid[], {}::text[]))",
            [job_id for job_id, _ in keys],
            [key for _, key in keys],
        )
        for row in rows:
            done[row["job_id"]].add(row["item_key"])
    return done


async def write_jobs(db: Database, jobs: Iterable[JobTally]) -> None:
    """Write what the reports have changed, for jobs that are locked, and their new history."""
    changed = [job for job in jobs if job.events]
    if changed:
        for job in changed:
            job.last_seq += len(job.events)
        await db.execute(_WRITE, *_columns_of_events(changed), *_columns_of_jobs(changed))
    for job in jobs:
        if job.let_go:
            # Each attempt once, however often it is told.
            await db.execute(
                "UPDATE jobs SET let_go = ARRAY(SELECT unnest(let_go) UNION SELECT unnest({}::integer[]))"
                " WHERE id = {}",
                sorted(job.let_go),
                job.id,
            )


def _columns_of_events(jobs: Sequence[JobTally]) -> list[list[object]]:
    rows = [
        (job.id, seq, job.attempt, kind_of(event.payload), event.item_key, encode_payload(event.payload))
        for job in jobs
        for seq, event in enumerate(job.events, job.last_seq - len(job.events) + 1)
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def _columns_of_jobs(jobs: Sequence[JobTally]) -> list[list[object]]:
    return [
        [job.id for job in jobs],
        [job.completed_count for job in jobs],
        [job.failed_count for job in jobs],
        [job.id for job in jobs],
        [job.state.value for job in jobs],
        [job.last_seq for job in jobs],
        [job.error_code for job in jobs],
        [job.error_message for job in jobs],
        [job.state.is_final for job in jobs],
    ]
