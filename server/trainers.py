"""Which train workers there are: what they announce, heard in the last ten seconds."""

import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from bus import subjects
from bus.envelope import Message
from bus.messages import AnnounceTrainers, TrainersAnnounced
from bus.port import Bus, Subscription

_logger = logging.getLogger(__name__)

#: A worker speaks every 2 s; after five times that it counts as gone.
UNSEEN_S: Final = 10.0
#: The pool of a job that nobody can take yet: where the worker of a laptop will be.
DEFAULT_POOL: Final = "default"


class _Worker(msgspec.Struct, frozen=True):
    """One train worker, and when it was last heard, in the clock's seconds."""

    announced: TrainersAnnounced
    last_seen: float


class Trainers:
    """Follows the train workers' announcements. A stack without one is in order: jobs wait for it."""

    def __init__(self, bus: Bus, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        #: Those that were not silent for long when another one spoke.
        self._workers: dict[str, _Worker] = {}
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Listen, and ask every worker to announce itself now."""
        self._subscription = await self._bus.follow(subjects.TRAINERS_ANNOUNCED, self._hear)
        await self._bus.tell(subjects.TRAINERS_WANTED, AnnounceTrainers())

    async def close(self) -> None:
        """Listen no more."""
        if self._subscription is not None:
            await self._subscription.close()

    def samples(self) -> list[str]:
        """Names of the data sets that some worker has installed, in order."""
        return sorted({name for announced in self._live() for name in announced.samples})

    def pools(self) -> list[str]:
        """Pools that some worker serves, in order."""
        return sorted({announced.pool for announced in self._live()})

    def is_available(self, pool: str) -> bool:
        """Whether some worker serves the pool now."""
        return pool in self.pools()

    def choose_pool(self, sample: str | None = None) -> str:
        """Return where a job goes: to the pool that comes first of those that have the sample.

        `DEFAULT_POOL` comes before all others, and where there is no worker.
        """
        pools = {
            announced.pool for announced in self._live() if sample is None or sample in announced.samples
        }
        return DEFAULT_POOL if DEFAULT_POOL in pools else min(pools, default=DEFAULT_POOL)

    def _live(self) -> list[TrainersAnnounced]:
        oldest = self._clock() - UNSEEN_S
        return [worker.announced for worker in self._workers.values() if worker.last_seen >= oldest]

    async def _hear(self, message: Message) -> None:
        if not isinstance(message, TrainersAnnounced):
            _logger.warning("%s has no place on the subject of train workers", type(message).__name__)
            return
        now = self._clock()
        self._workers = {
            worker_id: worker
            for worker_id, worker in self._workers.items()
            if worker.last_seen >= now - UNSEEN_S and worker_id != message.worker_id
        }
        if not message.leaving:
            self._workers[message.worker_id] = _Worker(message, now)
