"""Says what is wrong with what the clients of a round saw of their trainings. It knows nothing else."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tests.faults.harness.checker import FINAL, HONEST, Problem
from tests.faults.harness.seen import RefusalSeen
from tests.faults.harness.trainings.seen import TrainingEventSeen, TrainingSeen, TrainingsSeen

#: Events that a training has any number of, with its step.
_STEPS = frozenset({"TrainingProgressed"})


def check_trainings(
    seen: TrainingsSeen, refusals: Sequence[RefusalSeen], *, reference: Mapping[str, str]
) -> list[Problem]:
    """Return every problem of a round.

    Args:
        seen: what the clients saw of their trainings.
        refusals: what else they were refused.
        reference: by recipe, the digest of the model of a training that nothing disturbed.
    """
    problems = [problem for one in seen.trainings for problem in _check(one, reference)]
    owners = Counter(job_id for one in seen.trainings for job_id in set(one.ids))
    problems += [
        Problem("doubled", f"{job_id} was given to {count} requests")
        for job_id, count in owners.items()
        if count > 1
    ]
    problems += [Problem("doubled", f"{job_id} exists and was never answered") for job_id in seen.unknown_ids]
    problems += [
        Problem("dishonest", f"{refusal.what} was refused with {refusal.code}")
        for refusal in refusals
        if refusal.code not in HONEST
    ]
    return sorted(set(problems))


def _check(training: TrainingSeen, reference: Mapping[str, str]) -> Iterator[Problem]:
    if not training.ids:
        if training.is_stuck:
            yield Problem("stuck", f"{training.idempotency_key} was never accepted")
        return
    name = f"{training.recipe} {training.ids[0]}"
    if len(set(training.ids)) > 1:
        yield Problem("doubled", f"one key was accepted as {sorted(set(training.ids))}")
    if training.is_stuck:
        yield Problem("stuck", f"{name} did not end in time")
        return
    if training.history is None:
        yield Problem("lost", f"{name} was accepted and its history can't be read")
        return
    yield from _check_states(name, training, training.history)
    yield from _check_steps(name, training.history)
    for number, events in enumerate(training.watched):
        yield from _check_watcher(f"watcher {number} of {name}", events, training.history)
    if training.state == "SUCCEEDED" and training.sha256 != reference[training.recipe]:
        yield Problem("wrong", f"{name} gave another model than a training that nothing disturbed")


def _check_states(
    name: str, training: TrainingSeen, history: Sequence[TrainingEventSeen]
) -> Iterator[Problem]:
    """One terminal state for the start and for each resume, and none but those that were asked for."""
    states = [event.state for event in history if event.state is not None]
    final = [state for state in states if state in FINAL]
    if states[:1] != ["QUEUED"]:
        yield Problem("gap", f"{name} begins with {states[:1]}")
    if len(final) != 1 + training.num_resumes:
        kind = "stuck" if len(final) <= training.num_resumes else "doubled"
        yield Problem(
            kind, f"{name} ended {len(final)} times, resumed {training.num_resumes} times: {states}"
        )
    if "FAILED" in final:
        yield Problem("failed", f"{name} ended with FAILED, and nothing was wrong with it")
    if "CANCELLED" in final and not training.num_cancels:
        yield Problem("failed", f"{name} ended with CANCELLED, and nobody had asked for it")
    if training.state != "SUCCEEDED":
        yield Problem("stuck", f"{name} is {training.state} in the end")
    if not history or history[-1].state not in FINAL:
        yield Problem("wrong", f"{name} has events after its end")


def _check_steps(name: str, history: Sequence[TrainingEventSeen]) -> Iterator[Problem]:
    cursors = Counter(event.cursor for event in history)
    for cursor, count in cursors.items():
        if count > 1:
            yield Problem("doubled", f"{name} has {count} events at cursor {cursor}")
    attempts = [event.attempt for event in history]
    if attempts != sorted(attempts):
        yield Problem("wrong", f"{name} took events of an attempt that was over")
    for attempt in sorted(set(attempts)):
        steps = [e.step for e in history if e.attempt == attempt and e.kind in _STEPS and e.step is not None]
        if steps != sorted(steps):
            yield Problem("wrong", f"{name} goes back in attempt {attempt}: {steps}")


def _check_watcher(
    name: str, events: Sequence[TrainingEventSeen], history: Sequence[TrainingEventSeen]
) -> Iterator[Problem]:
    """A watcher has seen the history from its beginning to some place, and nothing else."""
    seen = [event.identity for event in events]
    there = [event.identity for event in history][: len(seen)]
    if seen != there:
        first = next((n for n, (a, b) in enumerate(zip(seen, there, strict=False)) if a != b), len(there))
        yield Problem(
            "gap", f"{name} saw {seen[first : first + 2]} where the history has {there[first : first + 2]}"
        )
