"""One round: load, one fault out of a seed, and what the checker says."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import msgspec

from deploy.errors import CommandFailed
from tests.faults.harness.checker import Problem, check, check_members
from tests.faults.harness.clients import User
from tests.faults.harness.kinds import KINDS, Disturbance, Kind
from tests.faults.harness.load import Load, learn_reference, outage_s, takeover_s
from tests.faults.harness.results import Line
from tests.faults.harness.seen import Seen, Vector
from tests.faults.harness.stack import Bus, FaultStack, running_stack
from tests.faults.harness.trainings.arena import TrainingArena, training_arena
from tests.faults.harness.trainings.kinds import TRAINING_KINDS

_NUM_USERS = 2
_DELAY_S = 1.0
_MAX_PROBLEMS = 20


def kind_of(seed: int) -> str:
    """Which kind of fault a seed stands for: consecutive seeds take all in turn."""
    return list(KINDS)[seed % len(KINDS)]


class Arena:
    """A running stack and its users, for one round after the other."""

    def __init__(self, stack: FaultStack, users: Sequence[User], reference: Mapping[str, Vector]) -> None:
        self.stack = stack
        self._users = users
        self._reference = reference

    async def run(self, seed: int, *, commit: str, name: str | None = None) -> Line:
        """Run the round of a seed; ``name`` is a kind of fault other than the seed's own."""
        name = name or kind_of(seed)
        # The seed alone decides, in whatever order rounds are run.
        rng = Random(f"{seed} {name}")
        fault = Disturbance(stack=self.stack, rng=rng)
        load = Load(self._users, rng, KINDS[name].shape)
        began = time.monotonic()
        try:
            problems = await self._play(load, fault, KINDS[name])
        except (AssertionError, TimeoutError, CommandFailed) as error:
            # Something did not come up again, or no load could be put on it in the first place.
            problems = [Problem("stuck", f"the round could not go on: {error!r}")]
        finally:
            await load.stop()
        problems += check_members(self.stack.members.values())
        line = Line(
            seed=seed,
            kind=name,
            commit=commit,
            what=fault.what,
            is_ok=not problems,
            problems=[str(problem) for problem in problems[:_MAX_PROBLEMS]],
            fault_s=round(fault.ended_s - fault.began_s, 2),
            took_s=round(time.monotonic() - began, 1),
        )
        return _with_counts(line, load.seen, fault)

    async def _play(self, load: Load, fault: Disturbance, kind: Kind) -> list[Problem]:
        load.start()
        await load.until_flowing()
        if kind.after_all_jobs:
            for worker in self.stack.workers:
                worker.freeze()
            await load.until_handed_in()
        else:
            await asyncio.sleep(fault.rng.uniform(0.0, _DELAY_S))
        fault.num_open = load.num_open
        fault.began_s = time.monotonic()
        await kind.fault(fault)
        fault.ended_s = time.monotonic()
        is_recovered = await load.finish()
        problems = check(load.seen, reference=self._reference, excuses=fault.excuses, may_cut=kind.may_cut)
        if not is_recovered:
            problems.append(Problem("stuck", "calls were not answered again after the fault"))
        return problems


class Arenas:
    """One arena for each kind of stack, made when it is needed and again after a round that went wrong."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, tuple[Arena | TrainingArena, AsyncExitStack]] = {}
        self._num_made = 0

    async def get(self, name: str) -> Arena | TrainingArena:
        """The arena for a kind of fault."""
        place = _place_of(name)
        if place not in self._open:
            self._num_made += 1
            stack = AsyncExitStack()
            path = self._folder / f"{self._num_made}-{place}"
            opening = training_arena(path) if name in TRAINING_KINDS else _arena(path, KINDS[name].bus)
            self._open[place] = (await stack.enter_async_context(opening), stack)
        return self._open[place][0]

    async def discard(self, name: str) -> Path:
        """Stop an arena that can't be trusted any more; its logs stay where they are."""
        arena, stack = self._open.pop(_place_of(name))
        await stack.aclose()
        return arena.stack.folder.path

    async def close(self) -> None:
        """Stop all."""
        for _, stack in self._open.values():
            await stack.aclose()
        self._open.clear()


def _place_of(name: str) -> str:
    return "trainings" if name in TRAINING_KINDS else KINDS[name].bus


@asynccontextmanager
async def _arena(path: Path, bus: Bus) -> AsyncIterator[Arena]:
    async with running_stack(path, bus=bus, workers=2) as stack, AsyncExitStack() as closing:
        users = []
        for _ in range(_NUM_USERS):
            users.append(await User.sign_up(stack.urls))
            closing.push_async_callback(users[-1].close)
        yield Arena(stack, users, await learn_reference(users[0]))


def _with_counts(line: Line, seen: Seen, fault: Disturbance) -> Line:
    taken_over_s = None
    if fault.worker_left_s is not None:
        taken_over_s = takeover_s(seen, fault.worker_left_s)
    codes = [call.code or "" for call in seen.calls if call.outcome == "refused"]
    codes += [refusal.code for refusal in seen.refusals]
    return msgspec.structs.replace(
        line,
        outage_s=round(outage_s(seen), 2),
        takeover_s=None if taken_over_s is None else round(taken_over_s, 2),
        jobs=sum(bool(job.ids) for job in seen.jobs),
        cancelled=sum(job.state == "CANCELLED" for job in seen.jobs),
        items=sum(len(job.texts) for job in seen.jobs if job.ids),
        events=sum(len(log) for job in seen.jobs for log in job.watched),
        calls=dict(Counter(call.outcome for call in seen.calls)),
        refusals=dict(Counter(codes)),
        resumed=seen.num_resumed,
        open_jobs=fault.num_open,
        attempts=max((e.attempt for job in seen.jobs for e in job.history or ()), default=0),
    )
