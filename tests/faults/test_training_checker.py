"""What the checker of trainings finds, and that it finds nothing where nothing is wrong."""

from collections.abc import Callable

import pytest

from tests.faults.harness.seen import RefusalSeen
from tests.faults.harness.trainings.checker import check_trainings
from tests.faults.harness.trainings.seen import TrainingEventSeen, TrainingSeen, TrainingsSeen

REFERENCE = {"gan": "d1gest"}


def state(cursor: int, name: str, attempt: int = 1) -> TrainingEventSeen:
    return TrainingEventSeen(
        kind="JobStateChanged", cursor=str(cursor), attempt=attempt, at_s=cursor, state=name
    )


def step(cursor: int, number: int, attempt: int = 1) -> TrainingEventSeen:
    return TrainingEventSeen(
        kind="TrainingProgressed", cursor=str(cursor), attempt=attempt, at_s=cursor, step=number
    )


def training() -> TrainingSeen:
    """A training that was taken over, cancelled, resumed, and has succeeded."""
    history = [
        state(1, "QUEUED", 0),
        state(2, "RUNNING"),
        step(3, 1),
        step(4, 40),
        state(5, "RUNNING", 2),
        step(6, 31, 2),
        state(7, "CANCELLING", 2),
        state(8, "CANCELLED", 2),
        state(9, "QUEUED", 2),
        state(10, "RUNNING", 3),
        step(11, 100, 3),
        state(12, "SUCCEEDED", 3),
    ]
    return TrainingSeen(
        recipe="gan",
        idempotency_key="key",
        ids=["job", "job"],
        watched=[history[:8], history],
        history=history,
        state="SUCCEEDED",
        sha256="d1gest",
        num_cancels=1,
        num_resumes=1,
    )


def problems_of(one: TrainingSeen, *refusals: RefusalSeen) -> list[str]:
    found = check_trainings(TrainingsSeen(trainings=[one]), refusals, reference=REFERENCE)
    return [str(problem) for problem in found]


def test_a_training_that_went_well_has_no_problem() -> None:
    assert [] == problems_of(training(), RefusalSeen(what="a training", code="BUSY", at_s=0.0))


def _end_again(one: TrainingSeen) -> None:
    assert one.history is not None
    one.history.append(state(13, "SUCCEEDED", 3))


def _lose_an_event(one: TrainingSeen) -> None:
    one.watched[1] = one.watched[1][:3] + one.watched[1][4:]


def _repeat_an_event(one: TrainingSeen) -> None:
    one.watched[1] = [*one.watched[1][:4], *one.watched[1][3:]]


def _go_back(one: TrainingSeen) -> None:
    assert one.history is not None
    one.history[3] = step(4, 0)
    one.watched = []


def _give_another_model(one: TrainingSeen) -> None:
    one.sha256 = "another"


def _take_two(one: TrainingSeen) -> None:
    one.ids.append("job 2")


def _forget_to_end(one: TrainingSeen) -> None:
    assert one.history is not None
    del one.history[-1]
    one.watched, one.state = [], "RUNNING"


def _fail(one: TrainingSeen) -> None:
    assert one.history is not None
    one.history[-1] = state(12, "FAILED", 3)
    one.watched, one.state = [], "FAILED"


def _lose_it(one: TrainingSeen) -> None:
    one.history = None


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (_end_again, "doubled"),
        (_lose_an_event, "gap"),
        (_repeat_an_event, "gap"),
        (_go_back, "wrong"),
        (_give_another_model, "wrong"),
        (_take_two, "doubled"),
        (_forget_to_end, "stuck"),
        (_fail, "failed"),
        (_lose_it, "lost"),
    ],
)
def test_what_goes_wrong_is_found(spoil: Callable[[TrainingSeen], None], kind: str) -> None:
    one = training()
    spoil(one)

    assert any(problem.startswith(f"{kind}: ") for problem in problems_of(one))


def test_a_training_nobody_was_told_of_and_a_code_that_is_not_true_are_found() -> None:
    seen = TrainingsSeen(trainings=[training()], unknown_ids=["stranger"])
    refusals = [RefusalSeen(what="a resume", code="INTERNAL", at_s=0.0)]

    found = [problem.kind for problem in check_trainings(seen, refusals, reference=REFERENCE)]

    assert ["dishonest", "doubled"] == found
