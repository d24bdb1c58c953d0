"""The load of one round: users who hand jobs in and watch them, and callers who wait for vectors."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import pairwise
from random import Random
from uuid import uuid4

import msgspec

from tests.faults.harness.checker import FINAL
from tests.faults.harness.clients import User
from tests.faults.harness.seen import EventSeen, JobSeen, Seen, Vector
from tests.support.processes import until

#: Short texts, so that a round computes little.
VOCABULARY = tuple(f"{a} {b}" for a in ("quiet", "amber", "brisk", "hollow") for b in (
    "marmot", "kettle", "harbour", "lantern", "meadow", "violin", "glacier", "thimble",
))  # fmt: skip
_SIZES = (1, 6, 40, 90, 150)
_CALLERS = 2
#: Less than the time after which servers forget a worker that says nothing.
_HAND_IN_S = 8.0
#: How long after the fault jobs may take before they count as stuck: the sweeper looks after 36 s of
#: silence, every 12 s.
STUCK_S = 90.0
#: How long after the fault calls may go on failing.
RECOVER_S = 30.0


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How much load."""

    #: Users who hand jobs in.
    num_users: int = 2
    #: Jobs of each user at least; more are handed in while the fault lasts.
    min_jobs: int = 3
    max_jobs: int = 5
    sizes: Sequence[int] = _SIZES
    #: Watchers of each job; the second leaves now and then and comes back.
    num_watchers: int = 2
    #: Seconds between one user's jobs, at most.
    pause_s: float = 0.8
    #: The share of jobs that their users cancel, and how long after they were accepted, at most.
    cancelled: float = 0.3
    cancel_after_s: float = 0.8


class Load:
    """Runs from `start` to `finish`."""

    def __init__(self, users: Sequence[User], rng: Random, shape: Shape) -> None:
        self._users = users
        self._rng = rng
        self._shape = shape
        self.seen = Seen()
        self._fault_is_over = asyncio.Event()
        self._is_finished = asyncio.Event()
        self._num_answered_after = 0
        self._recovered = asyncio.Event()
        self._working: list[asyncio.Task[None]] = []
        self._calling: list[asyncio.Task[None]] = []
        self._watching: list[tuple[JobSeen, asyncio.Task[None]]] = []
        self._cancelling: list[tuple[JobSeen, asyncio.Task[None]]] = []

    def start(self) -> None:
        """Begin."""
        for user in self._users:
            user.seen = self.seen
        for user in self._users[: self._shape.num_users]:
            rng = Random(self._rng.random())
            self._working.append(asyncio.create_task(self._hand_in_jobs(user, rng)))
        for number in range(_CALLERS):
            user = self._users[number % len(self._users)]
            self._calling.append(asyncio.create_task(self._call(user, number % 2)))

    async def until_flowing(self) -> None:
        """Return when a call was answered and an item of a job has come."""
        await until(lambda: self._has_answer() and self._has_item(), within_s=60.0)

    async def until_handed_in(self) -> None:
        """Return when every job is accepted, or soon without the last ones."""
        await asyncio.wait(self._working, timeout=_HAND_IN_S)

    @property
    def num_open(self) -> int:
        """Jobs that are accepted and have not ended, as far as their watchers have seen."""
        watched = [job.watched[0] for job in self.seen.jobs if job.watched]
        return sum(all(event.state not in FINAL for event in events) for events in watched)

    def _has_answer(self) -> bool:
        return any(call.outcome == "answered" for call in self.seen.calls)

    def _has_item(self) -> bool:
        return any(e.index is not None for job in self.seen.jobs for log in job.watched for e in log)

    async def finish(self) -> bool:
        """The fault is over: let jobs end, and look back. Returns whether calls were answered again."""
        self._fault_is_over.set()
        deadline = asyncio.get_running_loop().time() + STUCK_S
        _, unaccepted = await asyncio.wait(self._working, timeout=STUCK_S)
        # Who cancels a job watches it too.
        watching = [task for _, task in (*self._watching, *self._cancelling)]
        left_s = max(1.0, deadline - asyncio.get_running_loop().time())
        if watching:
            await asyncio.wait(watching, timeout=left_s)
        for job, task in (*self._watching, *self._cancelling):
            job.is_stuck |= not task.done()
        for job in self.seen.jobs:
            job.is_stuck |= bool(unaccepted) and not job.ids
        is_recovered = await self._wait_for_recovery()
        self._is_finished.set()
        # Callers end with the call they are in.
        await asyncio.gather(*self._calling)
        await self.stop()
        for task in (*self._working, *watching):
            if not task.cancelled():
                task.result()
        await self._look_back()
        return is_recovered

    async def stop(self) -> None:
        """End whatever still runs."""
        watching = (task for _, task in (*self._watching, *self._cancelling))
        tasks = [*self._working, *self._calling, *watching]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_for_recovery(self) -> bool:
        try:
            async with asyncio.timeout(RECOVER_S):
                await self._recovered.wait()
        except TimeoutError:
            return False
        return True

    async def _hand_in_jobs(self, user: User, rng: Random) -> None:
        for number in range(self._shape.max_jobs):
            if number >= self._shape.min_jobs and self._fault_is_over.is_set():
                return
            job = JobSeen(
                texts=rng.choices(VOCABULARY, k=rng.choice(self._shape.sizes)), idempotency_key=uuid4().hex
            )
            self.seen.jobs.append(job)
            await user.hand_in(job, rng)
            for leaves in (0, rng.randrange(3))[: self._shape.num_watchers]:
                events: list[EventSeen] = []
                job.watched.append(events)
                watch = user.watch(job, events, Random(rng.random()), leaves=leaves)
                self._watching.append((job, asyncio.create_task(watch)))
            if rng.random() < self._shape.cancelled:
                cancel = self._cancel_later(user, job, Random(rng.random()))
                self._cancelling.append((job, asyncio.create_task(cancel)))
            await asyncio.sleep(rng.random() * self._shape.pause_s)

    async def _cancel_later(self, user: User, job: JobSeen, rng: Random) -> None:
        await asyncio.sleep(rng.random() * self._shape.cancel_after_s)
        await user.cancel(job, rng)

    async def _call(self, user: User, replica: int) -> None:
        while not self._is_finished.is_set():
            # Never the same text again: a cached vector would hide an outage.
            if await user.call(f"call {uuid4().hex[:12]}", replica):
                if self._fault_is_over.is_set():
                    self._num_answered_after += 1
                    if self._num_answered_after > _CALLERS:
                        self._recovered.set()
                await asyncio.sleep(0.15)
            else:
                replica = 1 - replica
                await asyncio.sleep(0.1)

    async def _look_back(self) -> None:
        async with asyncio.timeout(60):
            for user in self._users:
                await user.look_for_strangers()
            jobs = [job for job in self.seen.jobs if job.ids and not job.is_stuck]
            # Any user's key reads only their own jobs, so each looks at their own.
            for job in jobs:
                owner = next(user for user in self._users if user.owns(job.ids[0]))
                await owner.look_back(job, self._rng)


def longest_gap_s(times: Sequence[float]) -> float:
    """The longest time between two of these moments."""
    return max((later - earlier for earlier, later in pairwise(sorted(times))), default=0.0)


def outage_s(seen: Seen) -> float:
    """How long clients went without any answer to a call, whichever replica they tried."""
    return longest_gap_s([call.ended_s for call in seen.calls if call.outcome == "answered"])


def takeover_s(seen: Seen, since_s: float) -> float | None:
    """How long after a moment the last job that was taken over was running again; None if none was."""
    times = [
        event.at_s - since_s
        for job in seen.jobs
        for log in job.watched[:1]
        for event in log
        if event.state == "RUNNING" and event.attempt > 1 and event.at_s >= since_s
    ]
    return max(times, default=None)


async def learn_reference(user: User) -> Mapping[str, Vector]:
    """Ask for the vector of every text of the vocabulary, while all is well."""
    return dict(zip(VOCABULARY, await user.embed(VOCABULARY), strict=True))
