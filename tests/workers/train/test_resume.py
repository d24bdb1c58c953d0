"""A resumed run is the run that was never broken off."""

import random
from pathlib import Path

import pytest

from tests.support.training import MakeTrainer, check_exact_resume, difference, run, saved_at
from tests.workers.train.kills import Lives, kill_and_resume
from tests.workers.train.scenarios import base, variants
from workers.train.report import CheckpointSaved, Fact

VARIANTS = {f"{trainer}-{make.__name__}": make for trainer, makes in variants().items() for make in makes}


@pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)
def test_a_run_saved_at_any_batch_goes_on_bit_for_bit(make: MakeTrainer, tmp_path: Path) -> None:
    check_exact_resume(make, tmp_path, shares=(0.1, 0.5, 0.77))


def test_a_run_saved_at_the_end_of_an_epoch_goes_on_bit_for_bit(tmp_path: Path) -> None:
    check_exact_resume(base.plain, tmp_path, shares=(0.25, 0.5))


def test_an_evaluation_that_was_due_when_the_run_was_saved_is_made_up_for(tmp_path: Path) -> None:
    """Every 12 of 42 batches: early stopping and the best model would else go by other evaluations."""
    check_exact_resume(base.everything, tmp_path, shares=(12 / 42, 36 / 42))


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    assert 0.0 == difference(run(base.plain(tmp_path / "a")), run(base.plain(tmp_path / "b")))


def test_a_killed_process_goes_on_from_its_newest_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    """Of its own checkpoints: no matter when it is killed, there is one that is whole."""
    chance = random.Random(4)  # noqa: S311  not a secret
    lives = Lives(base.everything, tmp_path)

    for number in range(3):
        assert 0.0 == lives.broken_anywhere(str(number), kill_at=chance.randrange(16, lives.num_batches))


@pytest.mark.parametrize("trainer", variants())
def test_a_trainer_killed_at_a_random_batch_goes_on_bit_for_bit(trainer: str, tmp_path: Path) -> None:
    """A few of what `make training-resume` does for the report."""
    kills = list(kill_and_resume(trainer, num_kills=2, seed=0, folder=tmp_path))

    assert [0.0, 0.0] == [kill.difference for kill in kills]


def test_train_called_again_with_more_to_do_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    whole = run(base.torch_schedule(tmp_path / "whole"))
    trainer = base.torch_schedule(tmp_path / "twice")
    trainer.configs.epoch_num = 2
    first = run(trainer)

    trainer.configs.epoch_num = 4
    second = run(trainer)

    assert whole.curve == first.curve | second.curve
    assert 0.0 == difference(whole, second)


def test_a_run_resumed_under_other_conditions_says_so(tmp_path: Path) -> None:
    run(base.plain(tmp_path), save_at={5}, kill_at=5)
    state = saved_at(tmp_path, 5) / "checkpoint.json"
    state.write_text(state.read_text().replace('"threads": 1', '"threads": 7'))
    said: list[Fact] = []
    trainer = base.plain(tmp_path)
    trainer.report = said.append

    run(trainer, saved_at(tmp_path, 5))

    assert ["resumed_elsewhere"] == [fact.code for fact in said if hasattr(fact, "code")]


def test_checkpoints_are_pruned_and_reported(tmp_path: Path) -> None:
    said: list[Fact] = []
    trainer = base.everything(tmp_path)
    trainer.report = said.append

    run(trainer)

    assert ["final_epoch", "step_12", "step_14"] == sorted(path.name for path in tmp_path.iterdir())
    assert [2, 4, 6, 8, 10, 12, 14, 14] == [fact.step for fact in said if isinstance(fact, CheckpointSaved)]
