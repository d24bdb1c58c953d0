"""The checker finds what is planted: a harness that can't see a loss proves nothing."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.harness.checker import Problem, check
from tests.faults.harness.seen import CallSeen, EventSeen, Excuse, JobSeen, RefusalSeen, Seen, Vector

TEXTS = ["one", "two", "three", "four"]
REFERENCE = {text: np.eye(4, dtype=np.float32)[number] for number, text in enumerate(TEXTS)}

Plant = Callable[[JobSeen], None]


def state(name: str, cursor: str, attempt: int = 1) -> EventSeen:
    return EventSeen(cursor=cursor, attempt=attempt, at_s=0.0, state=name)


def item(
    index: int, *, cursor: str | None = None, attempt: int = 1, vector: Vector | None = None
) -> EventSeen:
    vector = REFERENCE[TEXTS[index]] if vector is None else vector
    return EventSeen(cursor=cursor or f"item {index}", attempt=attempt, at_s=0.0, index=index, vector=vector)


def well() -> JobSeen:
    """A job as it should be, seen by two watchers."""
    history = [
        state("QUEUED", "a", 0),
        state("RUNNING", "b"),
        *(item(index) for index in range(4)),
        state("SUCCEEDED", "z"),
    ]
    return JobSeen(
        texts=list(TEXTS),
        idempotency_key="key",
        ids=["job", "job"],
        watched=[list(history), list(history)],
        history=history,
        state="SUCCEEDED",
        completed=4,
        failed=0,
        result=np.stack([REFERENCE[text] for text in TEXTS]),
    )


def kinds(seen: Seen, *excuses: Excuse) -> set[str]:
    return {problem.kind for problem in check(seen, excuses=excuses, reference=REFERENCE)}


def everywhere(change: Callable[[list[EventSeen]], list[EventSeen]]) -> Plant:
    """Plant something in the history itself, which every watcher then sees."""

    def plant(job: JobSeen) -> None:
        job.history = change(list(job.history or ()))
        job.watched = [list(job.history), list(job.history)]

    return plant


def lose_an_item(events: list[EventSeen]) -> list[EventSeen]:
    return [event for event in events if event.index != 2]


def double_an_item(events: list[EventSeen]) -> list[EventSeen]:
    return [*events[:-1], item(2, cursor="again", attempt=1), events[-1]]


def end_twice(events: list[EventSeen]) -> list[EventSeen]:
    return [*events, state("FAILED", "zz")]


def never_end(events: list[EventSeen]) -> list[EventSeen]:
    return events[:-1]


def go_back(events: list[EventSeen]) -> list[EventSeen]:
    return [*events[:2], msgspec.structs.replace(events[2], attempt=2), *events[3:]]


def swap_two_vectors(events: list[EventSeen]) -> list[EventSeen]:
    vectors = {2: events[3].vector, 3: events[2].vector}
    return [
        msgspec.structs.replace(event, vector=vectors[number]) if number in vectors else event
        for number, event in enumerate(events)
    ]


def fail_an_item(events: list[EventSeen]) -> list[EventSeen]:
    failed = msgspec.structs.replace(events[2], vector=None, code="INTERNAL")
    return [*events[:2], failed, *events[3:]]


def test_a_job_that_is_well_has_no_problem() -> None:
    assert [] == check(Seen(jobs=[well()]), reference=REFERENCE)


@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        ("lost", everywhere(lose_an_item)),
        ("doubled", everywhere(double_an_item)),
        ("doubled", everywhere(end_twice)),
        ("stuck", everywhere(never_end)),
        ("wrong", everywhere(go_back)),
        ("wrong", everywhere(swap_two_vectors)),
        ("failed", everywhere(fail_an_item)),
        ("gap", lambda job: job.watched[1].pop(3)),
        ("gap", lambda job: job.watched[0].pop()),
        ("doubled", lambda job: job.watched[1].insert(4, job.watched[1][3])),
        ("wrong", lambda job: job.watched[1].insert(2, job.watched[1].pop(3))),
        ("lost", lambda job: setattr(job, "history", None)),
        ("lost", lambda job: setattr(job, "result", None)),
        ("lost", lambda job: setattr(job, "result", job.result[:3] if job.result is not None else None)),
        ("wrong", lambda job: setattr(job, "result", np.zeros((4, 4), dtype=np.float32))),
        ("wrong", lambda job: setattr(job, "state", "RUNNING")),
        ("wrong", lambda job: setattr(job, "completed", 3)),
        ("stuck", lambda job: setattr(job, "is_stuck", True)),
        ("doubled", lambda job: job.ids.append("another")),
    ],
)
def test_what_is_planted_is_found(kind: str, plant: Plant) -> None:
    job = well()

    plant(job)

    assert kind in kinds(Seen(jobs=[well_named("other"), job]))


def cancelled(*, num_cancels: int = 1, answer: str | None = "CANCELLING") -> JobSeen:
    """A job that was stopped after two of its items."""
    job = well()
    job.history = [*well_history()[:4], state("CANCELLING", "c"), state("CANCELLED", "d")]
    job.watched = [list(job.history), list(job.history)]
    job.state, job.completed, job.result = "CANCELLED", 2, None
    job.num_cancels, job.cancel_answer = num_cancels, answer
    return job


def well_history() -> list[EventSeen]:
    return list(well().history or ())


@pytest.mark.parametrize(
    ("num_cancels", "answer"), [(1, "CANCELLING"), (1, "CANCELLED"), (2, "JOB_FINISHED")]
)
def test_a_job_that_its_user_cancelled_has_no_problem(num_cancels: int, answer: str) -> None:
    job = cancelled(num_cancels=num_cancels, answer=answer)

    assert [] == check(Seen(jobs=[job]), reference=REFERENCE)


def test_a_job_that_had_ended_before_it_could_be_cancelled_has_no_problem() -> None:
    job = well()
    job.num_cancels, job.cancel_answer = 1, "JOB_FINISHED"

    assert [] == check(Seen(jobs=[job]), reference=REFERENCE)


@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        ("failed", lambda job: setattr(job, "num_cancels", 0)),
        ("wrong", lambda job: setattr(job, "cancel_answer", "JOB_FINISHED")),
        ("wrong", lambda job: setattr(job, "completed", 3)),
        ("doubled", everywhere(lambda events: [*events, state("CANCELLED", "zz")])),
        ("wrong", everywhere(lambda events: [*events, item(3, cursor="late")])),
        ("stuck", everywhere(lambda events: events[:-1])),
        ("gap", lambda job: job.watched[1].pop()),
    ],
)
def test_what_is_planted_in_a_job_that_was_cancelled_is_found(kind: str, plant: Plant) -> None:
    job = cancelled()

    plant(job)

    assert kind in kinds(Seen(jobs=[job]))


def test_a_job_that_succeeds_although_its_user_was_told_that_it_stops_is_wrong() -> None:
    job = well()
    job.num_cancels, job.cancel_answer = 1, "CANCELLING"

    assert {"wrong"} == kinds(Seen(jobs=[job]))


def well_named(name: str) -> JobSeen:
    job = well()
    job.ids = [name]
    return job


@given(st.data())
def test_no_watcher_may_miss_or_repeat_any_event(data: st.DataObject) -> None:
    job = well()
    watcher = job.watched[data.draw(st.integers(0, 1))]
    index = data.draw(st.integers(0, len(watcher) - 1))
    is_loss = data.draw(st.booleans())

    if is_loss:
        watcher.pop(index)
    else:
        watcher.insert(data.draw(st.integers(0, len(watcher))), watcher[index])

    assert ("gap" if is_loss else "doubled") in kinds(Seen(jobs=[job]))


def test_a_job_that_is_never_accepted_is_stuck() -> None:
    job = JobSeen(texts=["one"], idempotency_key="key", is_stuck=True)

    assert {"stuck"} == kinds(Seen(jobs=[job]))


def test_one_job_for_two_requests_and_a_job_nobody_asked_for_are_doubled() -> None:
    seen = Seen(jobs=[well(), well()], unknown_ids=["stranger"])

    assert 2 == sum(problem.kind == "doubled" for problem in check(seen, reference=REFERENCE))


def call(outcome: str, code: str | None = None) -> CallSeen:
    raw = {"replica": 1, "began_s": 10.0, "ended_s": 22.0, "outcome": outcome, "code": code}
    return msgspec.convert(raw, CallSeen)


@pytest.mark.parametrize(
    ("expected", "seen"),
    [
        (set(), call("answered")),
        (set(), call("refused", "BUSY")),
        (set(), call("cut")),
        ({"hung"}, call("hung")),
        ({"dishonest"}, call("refused", "INTERNAL")),
        ({"dishonest"}, call("refused", "UNAUTHENTICATED")),
    ],
)
def test_a_call_is_answered_or_refused_with_a_code_that_is_true(expected: set[str], seen: CallSeen) -> None:
    assert expected == kinds(Seen(calls=[seen]))


def test_only_the_replica_that_was_frozen_may_hang_and_only_then() -> None:
    seen = Seen(calls=[call("hung")])

    assert set() == kinds(seen, Excuse(replica=1, began_s=11.0, ended_s=15.0))
    assert {"hung"} == kinds(seen, Excuse(replica=0, began_s=11.0, ended_s=15.0))
    assert {"hung"} == kinds(seen, Excuse(replica=1, began_s=30.0, ended_s=35.0))


def test_only_a_server_that_is_killed_may_break_a_call_off() -> None:
    seen = Seen(calls=[call("cut", "ReadError"), call("unreached")])

    assert [] == check(seen, reference=REFERENCE)
    assert ["cut"] == [problem.kind for problem in check(seen, reference=REFERENCE, may_cut=False)]


def test_a_good_credential_that_is_refused_is_dishonest() -> None:
    refusal = RefusalSeen(what="a subscription", code="CLOSE_4403", at_s=1.0)

    assert [Problem("dishonest", "a subscription was refused with CLOSE_4403")] == check(
        Seen(refusals=[refusal]), reference=REFERENCE
    )
