"""One round over running trainings: load, one fault out of a seed, and what the checker says."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

from deploy.errors import CommandFailed
from tests.faults.harness.checker import Problem, check_members
from tests.faults.harness.kinds import Disturbance
from tests.faults.harness.results import Line
from tests.faults.harness.stack import FaultStack, running_stack
from tests.faults.harness.trainings.checker import check_trainings
from tests.faults.harness.trainings.kinds import TRAINING_KINDS
from tests.faults.harness.trainings.learners import Learner
from tests.faults.harness.trainings.load import TrainingLoad, learn_reference
from tests.faults.harness.trainings.recipes import RECIPES

_NUM_USERS = 2
_DELAY_S = 4.0
_MAX_PROBLEMS = 20


def training_kind_of(seed: int) -> str:
    """Which kind of fault a seed stands for: consecutive seeds take all in turn."""
    return list(TRAINING_KINDS)[seed % len(TRAINING_KINDS)]


class TrainingArena:
    """A running stack with two train workers, and its users, for one round after the other."""

    def __init__(self, stack: FaultStack, users: Sequence[Learner], reference: Mapping[str, str]) -> None:
        self.stack = stack
        self._users = users
        self._reference = reference

    async def run(self, seed: int, *, commit: str, name: str | None = None) -> Line:
        """Run the round of a seed; ``name`` is a kind of fault other than the seed's own."""
        name = name or training_kind_of(seed)
        rng = Random(f"{seed} {name}")
        fault = Disturbance(stack=self.stack, rng=rng)
        load = TrainingLoad(self._users, rng)
        began = time.monotonic()
        try:
            problems = await self._play(load, fault, name)
        except (AssertionError, TimeoutError, CommandFailed) as error:
            problems = [Problem("stuck", f"the round could not go on: {error!r}")]
        finally:
            await load.stop()
        problems += check_members(self.stack.members.values())
        trainings = load.trainings.trainings
        events = [event for one in trainings for event in one.history or ()]
        return Line(
            seed=seed,
            kind=name,
            commit=commit,
            what=fault.what,
            is_ok=not problems,
            problems=[str(problem) for problem in problems[:_MAX_PROBLEMS]],
            fault_s=round(fault.ended_s - fault.began_s, 2),
            took_s=round(time.monotonic() - began, 1),
            jobs=sum(bool(one.ids) for one in trainings),
            cancelled=sum(one.num_resumes for one in trainings),
            events=sum(len(log) for one in trainings for log in one.watched),
            refusals=dict(Counter(refusal.code for refusal in load.seen.refusals)),
            resumed=load.seen.num_resumed,
            attempts=max((event.attempt for event in events), default=0),
        )

    async def _play(self, load: TrainingLoad, fault: Disturbance, name: str) -> list[Problem]:
        load.begin()
        await load.until_training()
        await asyncio.sleep(fault.rng.uniform(0.0, _DELAY_S))
        fault.began_s = time.monotonic()
        await TRAINING_KINDS[name](fault)
        fault.ended_s = time.monotonic()
        await load.finish()
        return check_trainings(load.trainings, load.seen.refusals, reference=self._reference)


@asynccontextmanager
async def training_arena(path: Path) -> AsyncIterator[TrainingArena]:
    """A stack, users with their data sets, and the models of trainings that nothing disturbed."""
    async with running_stack(path, workers=1, trainers=2) as stack, AsyncExitStack() as closing:
        users = []
        for _ in range(_NUM_USERS):
            users.append(await Learner.sign_up(stack.urls))
            closing.push_async_callback(users[-1].close)
        for user in users:
            for recipe in RECIPES.values():
                await user.prepare(recipe.data)
        yield TrainingArena(stack, users, await learn_reference(users[0]))
