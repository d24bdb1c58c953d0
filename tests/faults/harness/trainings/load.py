"""The load of one round of trainings: users who start them, watch them, and stop and resume some."""

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from uuid import uuid4

from tests.faults.harness.seen import Seen
from tests.faults.harness.trainings.learners import Learner
from tests.faults.harness.trainings.recipes import RECIPES
from tests.faults.harness.trainings.seen import TrainingEventSeen, TrainingSeen, TrainingsSeen
from tests.support.processes import until

#: How long after the fault trainings may take before they count as stuck.
STUCK_S = 180.0
_RESUMED = 0.3
_STOP_AFTER_S = 6.0


class TrainingLoad:
    """Runs from `begin` to `finish`."""

    def __init__(self, users: Sequence[Learner], rng: Random) -> None:
        self._users = users
        self._rng = rng
        self.seen = Seen()
        self.trainings = TrainingsSeen()
        self._learning: list[tuple[TrainingSeen, asyncio.Task[None]]] = []

    def begin(self) -> None:
        """Start one training a user, each of another recipe."""
        names = self._rng.sample(list(RECIPES), k=len(self._users))
        for user, name in zip(self._users, names, strict=True):
            user.seen = self.seen
            training = TrainingSeen(recipe=name, idempotency_key=uuid4().hex)
            self.trainings.trainings.append(training)
            learn = self._learn(user, training, Random(self._rng.random()))
            self._learning.append((training, asyncio.create_task(learn)))

    async def until_training(self) -> None:
        """Return when every training has made a step that somebody has seen."""
        await until(lambda: all(map(_has_step, self.trainings.trainings)), within_s=60.0)

    async def finish(self) -> None:
        """The fault is over: let the trainings end, and look back."""
        tasks = [task for _, task in self._learning]
        await asyncio.wait(tasks, timeout=STUCK_S)
        for training, task in self._learning:
            training.is_stuck = not task.done()
        await self.stop()
        for task in tasks:
            if not task.cancelled():
                task.result()
        async with asyncio.timeout(60):
            for user in self._users:
                self.trainings.unknown_ids += await user.find_unknown()
            for training, user in zip(self.trainings.trainings, self._users, strict=True):
                if training.ids and not training.is_stuck:
                    await user.look_back_at(training, self._rng)

    async def stop(self) -> None:
        """End whatever still runs."""
        for _, task in self._learning:
            task.cancel()
        await asyncio.gather(*(task for _, task in self._learning), return_exceptions=True)

    async def _learn(self, user: Learner, training: TrainingSeen, rng: Random) -> None:
        await user.start(training, rng)
        async with asyncio.TaskGroup() as group:
            if rng.random() < _RESUMED:
                group.create_task(self._stop_and_resume(user, training, rng))
            else:
                group.create_task(self._watch(user, training, rng, leaves=0))
            group.create_task(self._watch(user, training, rng, leaves=rng.randrange(1, 4)))

    async def _watch(self, user: Learner, training: TrainingSeen, rng: Random, *, leaves: int) -> None:
        events: list[TrainingEventSeen] = []
        training.watched.append(events)
        await user.watch_training(training, events, Random(rng.random()), leaves=leaves)

    async def _stop_and_resume(self, user: Learner, training: TrainingSeen, rng: Random) -> None:
        await asyncio.sleep(rng.random() * _STOP_AFTER_S)
        await user.cancel_training(training, rng)
        await self._watch(user, training, rng, leaves=0)
        if training.watched[-1][-1].state == "CANCELLED":
            await user.resume_training(training, rng)
            training.num_resumes += 1
            await self._watch(user, training, rng, leaves=0)


def _has_step(training: TrainingSeen) -> bool:
    return any(event.step is not None for events in training.watched for event in events)


async def learn_reference(user: Learner) -> Mapping[str, str]:
    """Train every recipe while all is well, and return the digest of each one's model."""
    for recipe in RECIPES.values():
        await user.prepare(recipe.data)
    trainings = [TrainingSeen(recipe=name, idempotency_key=uuid4().hex) for name in RECIPES]
    rng = Random(0)
    for training in trainings:
        await user.start(training, rng)
    digests: dict[str, str] = {}
    for training in trainings:
        async with asyncio.timeout(STUCK_S):
            await user.look_back_at(training, rng)
        assert training.state == "SUCCEEDED", training
        assert training.sha256 is not None
        digests[training.recipe] = training.sha256
    return digests
