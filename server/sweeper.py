"""Finds jobs that nobody has heard of for too long and puts them on the bus again."""

import logging
from collections.abc import Callable
from typing import Any

from opentelemetry.metrics import Meter

from bus.topology import Limits
from server.database import Database
from server.dataset_release import release_overlooked
from server.job_rows import add_to_outbox
from server.lane_rows import command_of
from server.repeating import Repeating

_logger = logging.getLogger(__name__)

#: Jobs put back in one transaction.
_BATCH = 32

# The join is on the current publication, so that a second sweeper that waited for the first one's lock
# finds no row: the job has another publication by then. Each publication without a sign of life
# doubles the wait, up to 128 times: a job that merely queues behind others gains few duplicates.
_LOST = """
SELECT jobs.id, jobs.kind, jobs.publish_number, outbox.subject, outbox.traceparent
FROM jobs JOIN outbox ON outbox.message_id = jobs.id || ':' || jobs.publish_number
WHERE jobs.state IN ('QUEUED', 'RUNNING') AND outbox.sent_at IS NOT NULL
AND greatest(jobs.heartbeat_at, outbox.sent_at) + make_interval(secs => {}::float8 * power(2, least(7, (
    SELECT count(*) FROM outbox AS unheard
    WHERE unheard.job_id = jobs.id AND unheard.created_at > coalesce(jobs.heartbeat_at, jobs.created_at)
)))) < now()
ORDER BY jobs.id LIMIT {} FOR UPDATE OF jobs SKIP LOCKED
"""

_OPEN = """
SELECT 'embed' AS lane, coalesce(embedding_jobs.pool, pipelines.pool) AS pool, jobs.state,
    count(*) AS num_open
FROM jobs JOIN embedding_jobs ON embedding_jobs.job_id = jobs.id
LEFT JOIN pipelines ON pipelines.name = embedding_jobs.pipeline_name
WHERE jobs.state IN ('QUEUED', 'RUNNING', 'CANCELLING') GROUP BY 1, 2, 3
UNION ALL
SELECT lane_jobs.lane, lane_jobs.pool, jobs.state, count(*)
FROM jobs JOIN lane_jobs ON lane_jobs.job_id = jobs.id
WHERE jobs.state IN ('QUEUED', 'RUNNING', 'CANCELLING') GROUP BY lane_jobs.lane, lane_jobs.pool, jobs.state
"""


class Sweeper:
    """Publishes again, under a new number, what is neither finished nor heard of for three ack waits.

    A training that waits for its data set was never published, and is left alone; one whose data set was
    settled in the moment in which it was written is released.

    The bus may lose all it holds and no job is lost. A job that was not lost after all is then on the bus
    twice, which costs a second attempt at what is not yet done and nothing else.
    """

    def __init__(self, db: Database, *, wake: Callable[[], None], meter: Meter) -> None:
        self._db = db
        self._wake = wake
        # A dead worker's job is delivered again after one.
        ack_wait_s = Limits().ack_wait_s
        self._silence_s = 3 * ack_wait_s
        self._loop = Repeating(self.sweep, name="job sweeper", every_s=ack_wait_s)
        self._lag = meter.create_gauge(
            "towhee.outbox.lag", unit="s", description="Age of the oldest row that is not on the bus."
        )
        self._open = meter.create_gauge(
            "towhee.jobs.open", description="Jobs of all users that have not ended, by lane, pool and state."
        )
        #: Those that were told last: what is no more has to be told, too.
        self._told: set[tuple[str, str, str]] = set()
        self._republished = meter.create_counter(
            "towhee.job.republished", description="Jobs put on the bus again after a long silence."
        )

    def start(self) -> None:
        """Look for lost jobs from now on."""
        self._loop.start()

    async def close(self) -> None:
        """Finish the batch in hand."""
        await self._loop.close()

    async def sweep(self) -> None:
        """Put back all that is lost now, batch after batch: after the loss of the bus that is every job."""
        is_more = True
        while is_more:
            async with self._db.transaction():
                lost = await self._db.fetch(_LOST, self._silence_s, _BATCH)
                for row in lost:
                    await self._put_back(row)
            if lost:
                self._republished.add(len(lost))
                self._wake()
            is_more = len(lost) == _BATCH
        # Whoever waits for the history of one that has failed so finds it by the slow poll.
        if (await release_overlooked(self._db)).num_ready:
            self._wake()
        [oldest] = await self._db.fetch(
            "SELECT extract(epoch FROM coalesce(now() - min(created_at), interval '0'))::float8 AS age_s"
            " FROM outbox WHERE sent_at IS NULL"
        )
        self._lag.set(oldest["age_s"])
        await self._count_open()

    async def _count_open(self) -> None:
        rows = await self._db.fetch(_OPEN)
        counted = {(row["lane"], row["pool"], row["state"]): row["num_open"] for row in rows}
        for key in self._told | counted.keys():
            lane, pool, state = key
            self._open.set(counted.get(key, 0), {"lane": lane, "pool": pool, "state": state})
        self._told = set(counted)

    async def _put_back(self, row: dict[str, Any]) -> None:
        number = row["publish_number"] + 1
        _logger.warning("job %s was not heard of for long: publication %d", row["id"], number)
        await self._db.execute("UPDATE jobs SET publish_number = {} WHERE id = {}", number, row["id"])
        command = command_of(row["kind"], row["id"], number)
        await add_to_outbox(self._db, row["subject"], command, traceparent=row["traceparent"])
