"""Says what is wrong with what the clients of a round saw. It knows nothing else."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
import numpy as np

from tests.faults.harness.members import Member
from tests.faults.harness.seen import CallSeen, EventSeen, Excuse, JobSeen, Seen, Vector

FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
#: Codes that say "later" or "not this"; INTERNAL hides a bug, and the rest would be untrue here.
HONEST = frozenset({"BUSY", "TIMEOUT", "PIPELINE_UNAVAILABLE", "RATE_LIMITED"})
#: Cosine below which two vectors are not of the same text; batches round differently.
_SAME = 0.9999


class Problem(msgspec.Struct, frozen=True, order=True):
    """One thing that must not happen.

    ``kind`` is lost, doubled, gap, stuck, wrong, failed, hung, cut, died or dishonest.
    """

    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


def check(
    seen: Seen, *, reference: Mapping[str, Vector], excuses: Sequence[Excuse] = (), may_cut: bool = True
) -> list[Problem]:
    """Return every problem of a round.

    Args:
        seen: what the clients saw.
        may_cut: whether a server may break off what it has begun, as one that is killed does.
        excuses: when a replica could not answer, which is no fault of its.
        reference: the vector of each text of the jobs, computed while all was well.
    """
    problems = [problem for job in seen.jobs for problem in _check_job(job, reference)]
    problems += _check_ids(seen)
    problems += [problem for call in seen.calls for problem in _check_call(call, excuses)]
    problems += [
        Problem("cut", f"a call was broken off ({call.code}) by a server that was asked to finish")
        for call in seen.calls
        if call.outcome == "cut" and not may_cut
    ]
    problems += [
        Problem("dishonest", f"{refusal.what} was refused with {refusal.code}")
        for refusal in seen.refusals
        if refusal.code not in HONEST
    ]
    return sorted(set(problems))


def check_members(members: Iterable[Member]) -> list[Problem]:
    """Return which processes have ended although nobody here ended them."""
    return [
        Problem("died", f"{member.name} ended by itself with code {member.returncode}")
        for member in members
        if member.has_died
    ]


def _check_ids(seen: Seen) -> Iterator[Problem]:
    owners = Counter(job_id for job in seen.jobs for job_id in set(job.ids))
    for job_id, count in owners.items():
        if count > 1:
            yield Problem("doubled", f"{job_id} was given to {count} requests")
    for job_id in seen.unknown_ids:
        yield Problem("doubled", f"{job_id} exists and was never answered")


def _check_job(job: JobSeen, reference: Mapping[str, Vector]) -> Iterator[Problem]:
    if not job.ids:
        if job.is_stuck:
            yield Problem("stuck", f"{job.idempotency_key} was never accepted")
        return
    name = job.ids[0]
    if len(set(job.ids)) > 1:
        yield Problem("doubled", f"one key was accepted as {sorted(set(job.ids))}")
    if job.is_stuck:
        yield Problem("stuck", f"{name} did not end in time")
        return
    if job.history is None:
        yield Problem("lost", f"{name} was accepted and its history can't be read")
        return
    yield from _check_history(name, job, job.history)
    for number, events in enumerate(job.watched):
        yield from _check_watcher(f"watcher {number} of {name}", events, job.history)
    yield from _check_vectors(name, job, job.history, reference)
    yield from _check_record(name, job)


def _check_history(name: str, job: JobSeen, history: Sequence[EventSeen]) -> Iterator[Problem]:
    yield from _repeats(name, history)
    yield from _check_states(name, history)
    yield from _check_cancel(name, job, [event.state for event in history if event.state in FINAL])
    yield from _check_items(name, len(job.texts), history)
    attempts = [event.attempt for event in history]
    if attempts != sorted(attempts):
        yield Problem("wrong", f"{name} took events of an attempt that was over")


def _check_states(name: str, history: Sequence[EventSeen]) -> Iterator[Problem]:
    states = [event.state for event in history if event.state is not None]
    final = [state for state in states if state in FINAL]
    if states[:1] != ["QUEUED"]:
        yield Problem("gap", f"{name} begins with {states[:1]}")
    if not final:
        yield Problem("stuck", f"{name} has ended without a final state")
        return
    if len(final) > 1:
        yield Problem("doubled", f"{name} ended {len(final)} times: {states}")
    if history[-1].state not in FINAL:
        yield Problem("wrong", f"{name} has events after its end")
    if "FAILED" in final:
        yield Problem("failed", f"{name} ended with FAILED, and nothing was wrong with it")


def _check_cancel(name: str, job: JobSeen, final: Sequence[str | None]) -> Iterator[Problem]:
    """A job is cancelled by its user alone, and the answer to the order is true."""
    answer = job.cancel_answer
    if "CANCELLED" in final and not job.num_cancels:
        yield Problem("failed", f"{name} ended with CANCELLED, and nobody had asked for it")
    # An order that was given again may meet what the first one did, whose answer was lost.
    if "CANCELLED" in final and answer == "JOB_FINISHED" and job.num_cancels == 1:
        yield Problem("wrong", f"{name} was cancelled, and its user was told that it had ended before")
    if "SUCCEEDED" in final and answer not in {None, "JOB_FINISHED"}:
        yield Problem("wrong", f"{name} succeeded, and its user was told that it is {answer}")


def _check_items(name: str, num_items: int, history: Sequence[EventSeen]) -> Iterator[Problem]:
    counts = Counter(event.index for event in history if event.index is not None)
    for index, count in counts.items():
        if count > 1:
            yield Problem("doubled", f"item {index} of {name} has {count} results")
    missing = set(range(num_items)) - set(counts)
    if missing and any(event.state == "SUCCEEDED" for event in history):
        yield Problem("lost", f"{name} has no result for {len(missing)} items, {min(missing)} the first")
    beyond = set(counts) - set(range(num_items))
    if beyond:
        yield Problem("wrong", f"{name} has results for items {sorted(beyond)} that it does not have")
    for event in history:
        if event.index is not None and event.vector is None:
            yield Problem("failed", f"item {event.index} of {name}: {event.code}")


def _check_watcher(name: str, events: Sequence[EventSeen], history: Sequence[EventSeen]) -> Iterator[Problem]:
    yield from _repeats(name, events)
    got = [event.identity for event in events]
    expected = [event.identity for event in history]
    if got == expected:
        return
    missing = len(set(expected) - set(got))
    if missing:
        yield Problem("gap", f"{name} missed {missing} of {len(expected)} events")
    elif len(got) == len(set(got)):
        yield Problem("wrong", f"{name} saw another history")


def _repeats(name: str, events: Iterable[EventSeen]) -> Iterator[Problem]:
    repeated = [cursor for cursor, count in Counter(e.cursor for e in events).items() if count > 1]
    if repeated:
        yield Problem("doubled", f"{name} got {len(repeated)} events twice")


def _check_vectors(
    name: str, job: JobSeen, history: Sequence[EventSeen], reference: Mapping[str, Vector]
) -> Iterator[Problem]:
    by_index = {event.index: event.vector for event in history if event.index is not None}
    for index, text in enumerate(job.texts):
        vector = by_index.get(index)
        if vector is not None and not _is_same(vector, reference[text]):
            yield Problem("wrong", f"item {index} of {name} has the vector of something else")
            return
    if job.result is None:
        return
    if job.result.shape[0] != len(job.texts):
        yield Problem("lost", f"the result of {name} has {job.result.shape[0]} rows for {len(job.texts)}")
        return
    for index, vector in by_index.items():
        if index is not None and vector is not None and not np.array_equal(job.result[index], vector):
            yield Problem("wrong", f"row {index} of the result of {name} is not what was told")
            return


def _check_record(name: str, job: JobSeen) -> Iterator[Problem]:
    states = [event.state for event in job.history or () if event.state is not None]
    if job.state != states[-1]:
        yield Problem("wrong", f"{name} is {job.state} and its history ends with {states[-1]}")
    if job.state == "CANCELLED":
        told = sum(event.vector is not None for event in job.history or ())
        if (job.completed, job.failed) != (told, 0):
            yield Problem("wrong", f"{name} was cancelled after {told} items and counts {job.completed}")
    if job.state == "SUCCEEDED":
        if (job.completed, job.failed) != (len(job.texts), 0):
            yield Problem("wrong", f"{name} counts {job.completed} done, {job.failed} failed")
        if job.result is None:
            yield Problem("lost", f"{name} has succeeded and has no result file")


def _check_call(call: CallSeen, excuses: Sequence[Excuse]) -> Iterator[Problem]:
    if call.outcome == "refused" and call.code not in HONEST:
        yield Problem("dishonest", f"a call was refused with {call.code}")
    if call.outcome == "hung" and not any(_covers(excuse, call) for excuse in excuses):
        took_s = call.ended_s - call.began_s
        yield Problem("hung", f"a call to replica {call.replica} had no answer after {took_s:.1f} s")


def _covers(excuse: Excuse, call: CallSeen) -> bool:
    overlaps = excuse.began_s <= call.ended_s and call.began_s <= excuse.ended_s
    return excuse.replica == call.replica and overlaps


def _is_same(one: Vector, other: Vector) -> bool:
    if one.shape != other.shape:
        return False
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return lengths > 0 and float(one @ other) / lengths > _SAME
