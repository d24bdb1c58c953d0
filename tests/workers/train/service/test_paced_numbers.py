"""Numbers of short epochs are told a few times a second, the newest always before what comes after them."""

from pathlib import Path

from workers.train.report import Evaluated, Finished, Progress
from workers.train.service.child.training import PacedNumbers, reporter
from workers.train.service.frames import Told


def progress(step: int) -> Progress:
    return Progress(step=step, epoch=step, num_steps=100, seconds=0.0, metrics={"loss": 1.0})


def evaluated(step: int) -> Evaluated:
    return Evaluated(step=step, epoch=step, metrics={"eval_loss": 1.0}, is_best=False)


def test_the_first_is_told_at_once_and_of_the_others_the_newest() -> None:
    told: list[Told] = []
    now = 0.0
    numbers = PacedNumbers(told.append, clock=lambda: now)

    for step in range(1, 50):
        numbers.tell(progress(step))
        numbers.tell(evaluated(step))
    assert [progress(1)] == told
    now = 1.0
    numbers.tell(progress(50))

    assert [progress(1), evaluated(49), progress(50)] == told


def test_what_is_held_goes_before_whatever_else_is_told(tmp_path: Path) -> None:
    told: list[Told] = []
    report = reporter(tmp_path, told.append)

    report(progress(1))
    report(progress(2))
    report(evaluated(2))
    report(Finished(step=2, epoch=2, reason="max_steps"))

    assert [progress(1), progress(2), evaluated(2), Finished(step=2, epoch=2, reason="max_steps")] == told
