"""How much accepted and unfinished work there may be: of one user, and for one pool of workers."""

import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from server.database import Database
from server.errors import Busy

#: A job takes seconds to minutes; a client that asks again sooner would mostly ask in vain.
_RETRY_AFTER_S: Final = 5.0
#: Counting a pool's jobs reads them all, so it is done this often at most.
_COUNT_EVERY_S: Final = 1.0

_OF_USER = """
SELECT count(*) AS num_open FROM (
    SELECT 1 FROM jobs WHERE user_id = {} AND state IN ('QUEUED', 'RUNNING', 'CANCELLING') LIMIT {}
) AS open_jobs
"""
_OF_POOLS = """
SELECT coalesce(embedding_jobs.pool, pipelines.pool) AS pool, count(*) AS num_open
FROM jobs JOIN embedding_jobs ON embedding_jobs.job_id = jobs.id
LEFT JOIN pipelines ON pipelines.name = embedding_jobs.pipeline_name
WHERE jobs.state IN ('QUEUED', 'RUNNING', 'CANCELLING') GROUP BY 1
"""


class Backlog:
    """Refuses new jobs where too many are open.

    The limits are no locks: what is created in the same moment, or on other servers within a second, may
    pass a limit by that much.
    """

    def __init__(
        self,
        db: Database,
        *,
        max_of_user: int,
        max_of_pool: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._max_of_user = max_of_user
        self._max_of_pool = max_of_pool
        self._clock = clock
        # By pool, of which there are as many as an operator has named.
        self._of_pools: dict[str, int] = {}
        self._counted_at = float("-inf")

    async def check(self, user_id: UUID, pool: str) -> None:
        """Return if one more job of the user may be accepted for the pool.

        Raises:
            Busy: the user, or all users of the pool together, have enough open jobs.
        """
        await self.check_user(user_id)
        if self._clock() >= self._counted_at + _COUNT_EVERY_S:
            self._counted_at = self._clock()
            self._of_pools = {row["pool"]: row["num_open"] for row in await self._db.fetch(_OF_POOLS)}
        if self._of_pools.get(pool, 0) >= self._max_of_pool:
            raise Busy("The workers have more jobs than they can take.", retry_after_s=_RETRY_AFTER_S)
        # Seen at once by what this server is asked before the next count.
        self._of_pools[pool] = self._of_pools.get(pool, 0) + 1

    async def check_user(self, user_id: UUID) -> None:
        """Return if one more job of the user may be accepted, of whatever kind.

        Raises:
            Busy: the user has enough open jobs.
        """
        row = await self._db.fetch_one(_OF_USER, user_id, self._max_of_user)
        if row is not None and row["num_open"] >= self._max_of_user:
            raise Busy(
                f"You have {self._max_of_user} unfinished jobs, and no more are taken until some have ended.",
                retry_after_s=_RETRY_AFTER_S,
            )
