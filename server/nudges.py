"""Servers tell each other that a job has new history, so that subscribers need not poll for it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from bus import subjects
from bus.envelope import Message
from bus.errors import BusError
from bus.messages import JobNudged
from bus.port import Bus, Subscription
from server.database import Database
from server.repeating import Repeating

_logger = logging.getLogger(__name__)


async def nudge(bus: Bus, job_id: UUID, seq: int) -> None:
    """Say that the history of a job can be read up to ``seq``; a nudge that is lost costs only time."""
    try:
        await bus.tell(subjects.job_nudged(str(job_id)), JobNudged(job_id=str(job_id), seq=seq))
    except BusError as error:
        _logger.warning("nobody was nudged about job %s: %s", job_id, error)


class _Channel:
    """One bus subscription for a job, and a bell for each of the job's subscribers in this process."""

    def __init__(self, bus: Bus, job_id: UUID) -> None:
        self.bells: set[asyncio.Event] = set()
        #: The newest row of history that a poll has seen; None of a job that is gone.
        self.seq: int | None = 0
        # A task of its own: a subscriber that goes away while it opens must not take it from the others.
        self._opening = asyncio.create_task(self._open(bus, job_id))

    async def ready(self) -> None:
        await asyncio.shield(self._opening)

    async def close(self) -> None:
        subscription = await self._opening
        if subscription is not None:
            await subscription.close()

    def ring(self) -> None:
        for bell in self.bells:
            bell.set()

    async def _open(self, bus: Bus, job_id: UUID) -> Subscription | None:
        try:
            return await bus.follow(subjects.job_nudged(str(job_id)), self._on_nudge)
        except BusError as error:
            _logger.warning("no nudges about job %s, only the slow poll: %s", job_id, error)
            return None

    async def _on_nudge(self, _message: Message) -> None:
        self.ring()


class Nudges:
    """Rings a bell when a watched job has something new.

    However many subscribers a job has here, the bus knows one; and however many jobs are watched, one query
    every ``poll_s`` finds what no nudge told.
    """

    def __init__(self, db: Database, bus: Bus, *, poll_s: float = 2.0) -> None:
        self._db = db
        self._bus = bus
        self._poll_s = poll_s
        self._channels: dict[UUID, _Channel] = {}
        self._poll: Repeating | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        """Whether no job is watched, and everything that watching took is given back."""
        return not self._channels and not self._closing and self._poll is None

    @asynccontextmanager
    async def watching(self, job_id: UUID) -> AsyncIterator[asyncio.Event]:
        """Give a bell that rings after each change from now on; whoever waits for it clears it first."""
        channel = self._channels.get(job_id)
        if channel is None:
            channel = self._channels[job_id] = _Channel(self._bus, job_id)
        bell = asyncio.Event()
        channel.bells.add(bell)
        self._ensure_poll()
        try:
            await channel.ready()
            yield bell
        finally:
            channel.bells.discard(bell)
            if not channel.bells:
                del self._channels[job_id]
                await self._let_go(channel)

    async def _let_go(self, channel: _Channel) -> None:
        # In a task, held by name: closing goes on even when the subscriber that leaves is cancelled again.
        closing = asyncio.create_task(self._close(channel))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        await asyncio.shield(closing)

    async def _close(self, channel: _Channel) -> None:
        await channel.close()
        if not self._channels and self._poll is not None:
            poll, self._poll = self._poll, None
            await poll.close(grace_s=0)

    def _ensure_poll(self) -> None:
        if self._poll is None:
            self._poll = Repeating(self._look, name="job nudges poll", every_s=self._poll_s)
            self._poll.start()

    async def _look(self) -> None:
        watched = dict(self._channels)
        rows = await self._db.fetch("SELECT id, last_seq FROM jobs WHERE id = ANY({}::uuid[])", list(watched))
        last_seq = {row["id"]: row["last_seq"] for row in rows}
        for job_id, channel in watched.items():
            # A job that is gone has news of its own: there will be no more.
            seq = last_seq.get(job_id)
            if seq != channel.seq:
                channel.seq = seq
                channel.ring()
