"""What all trainings of the service have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bus.messages.training import (
    AutoencoderParameters,
    FineTuneParameters,
    RnnParameters,
    SemiSupervisedParameters,
    TrainerParameters,
    TrainingSpec,
)
from tests.workers.train.run.stored import Stored, built, pictures, texts, trained
from workers.nets.manifest import ArtifactRefused, load_artifact
from workers.nets.validation import InvalidConfig, Problem
from workers.train.base.batches import inputs_of, num_rows
from workers.train.datasets import SampleSource, open_prepared, validate
from workers.train.report import CheckpointSaved, Evaluated, Finished, Progress, ignore
from workers.train.run import CannotTrain, build_trainer, export_model, total_steps
from workers.train.run import rows as rows_module
from workers.train.run.order import Order
from workers.train.run.problems import in_words
from workers.train.run.settings import Rows, num_test_rows, training_config


@pytest.fixture(scope="module")
def digits() -> Stored:
    return all_digits()


def test_the_number_of_steps_is_known_before_training(digits: Stored, tmp_path: Path) -> None:
    by_epochs = built(AutoencoderParameters(epochs=3, batch_size=100), digits, tmp_path)
    by_steps = built(AutoencoderParameters(epochs=3), digits, tmp_path, max_steps=7)

    assert (42, 7) == (total_steps(by_epochs), total_steps(by_steps))


def test_a_training_says_how_it_goes_from_its_first_step_to_its_last(digits: Stored, tmp_path: Path) -> None:
    trainer, said = trained(AutoencoderParameters(epochs=6, batch_size=100), digits, tmp_path)

    progress = [fact for fact in said if isinstance(fact, Progress)]
    assert (1, 84) == (progress[0].step, progress[-1].step)
    assert {84} == {fact.num_steps for fact in progress}
    assert [14, 28, 42, 56, 70, 84] == [fact.step for fact in said if isinstance(fact, Evaluated)]
    assert isinstance(said[-1], Finished)
    assert "mine" == trainer.model_card.model_name


def test_checkpoints_are_written_as_often_as_is_asked_and_two_are_kept(
    digits: Stored, tmp_path: Path
) -> None:
    said: list[object] = []
    spec = TrainingSpec(name="mine", parameters=AutoencoderParameters(), max_steps=100)

    build_trainer(spec, digits, tmp_path / "run", said.append, checkpoint_every_s=1e-3).train()

    steps = [fact.step for fact in said if isinstance(fact, CheckpointSaved)]
    assert len(steps) > 3
    assert {"final_epoch", *(f"step_{step}" for step in steps[-3:-1])} == {
        path.name for path in (tmp_path / "run").iterdir()
    }


def test_a_training_ends_in_time(digits: Stored, tmp_path: Path) -> None:
    _, said = trained(AutoencoderParameters(epochs=10_000), digits, tmp_path, max_seconds=1)

    assert isinstance(said[-1], Finished)
    assert "max_seconds" == said[-1].reason


def test_the_same_training_is_the_same_bit_for_bit_and_leaves_random_numbers_alone(
    digits: Stored, tmp_path: Path
) -> None:
    exported = [
        export_model(
            trained(AutoencoderParameters(), digits, tmp_path / name, max_steps=5, seed=seed)[0],
            digits,
            tmp_path / name / "model",
        )
        for name, seed in (("one", 3), ("same", 3), ("other", 4))
    ]

    one, same, other = (found.sha256 for found in exported)
    assert one == same
    assert one != other


SAMPLES = {
    "digits": AutoencoderParameters(),
    "names": RnnParameters(hidden=16),
}


@pytest.mark.parametrize(("name", "parameters"), SAMPLES.items())
def test_a_data_set_that_was_validated_is_trained_on(
    name: str, parameters: TrainerParameters, tmp_path: Path
) -> None:
    validate(SampleSource(name=name), tmp_path / "data")
    prepared = open_prepared(tmp_path / "data")
    spec = TrainingSpec(name="mine", parameters=parameters, max_steps=2)
    trainer = build_trainer(spec, prepared, tmp_path / "run", ignore, device="cpu")

    trainer.train()

    found = export_model(trainer, prepared, tmp_path / "model", data_name=name)
    data = load_artifact(tmp_path / "model" / "encoder").manifest.data
    assert (prepared.facts.modality, prepared.facts.sha256) == (found.modality, data.sha256)
    assert (name, prepared.facts.num_rows) == (data.name, data.num_rows)


def news() -> Stored:
    return texts("bbc_news", 300, 60)


def names() -> Stored:
    return texts("names", 1000, 60)


def all_digits() -> Stored:
    return pictures("digits", 1437, 360)


TRAINED_ON: dict[str, tuple[TrainerParameters, Callable[[], Stored]]] = {
    "pictures": (AutoencoderParameters(), all_digits),
    "counted words": (AutoencoderParameters(), news),
    "tokens": (RnnParameters(hidden=8), names),
    "pooled words": (SemiSupervisedParameters(), news),
    "pictures that were resized": (FineTuneParameters(image_size=64), all_digits),
    "tokens of a pipeline": (FineTuneParameters(max_length=16), news),
}


@pytest.mark.parametrize(("parameters", "data"), TRAINED_ON.values(), ids=TRAINED_ON)
def test_an_encoder_is_given_what_it_was_trained_on(
    parameters: TrainerParameters, data: Callable[[], Stored], tmp_path: Path
) -> None:
    """Batches of the trainer and what the exported contract makes of the same items are the same numbers."""
    rows = data()
    trainer = built(parameters, rows, tmp_path)
    loader = trainer.get_eval_dataloader()
    assert loader is not None
    given: Any = inputs_of(next(iter(loader)))
    encoder = trainer.encoder()
    contract: Any = encoder.input

    items = list(rows.rows["test"])[: num_rows(given)]
    words = () if encoder.tokenizer is None else (encoder.tokenizer,)
    prepared = contract.prepare(items, *words)

    if isinstance(given, dict):
        assert all(torch.equal(given[name], prepared[name]) for name in ("ids", "ids_lengths"))
    else:
        assert torch.equal(contract.scale(given) if given.dtype == torch.uint8 else given, prepared)


@given(
    total=st.integers(1, 10**6),
    train=st.integers(2, 10**6),
    batch=st.integers(2, 4096),
    test=st.integers(0, 10**6),
)
def test_evaluations_are_few_and_cheap_and_there_is_one_at_the_end(
    total: int, train: int, batch: int, test: int
) -> None:
    spec = TrainingSpec(name="mine", parameters=AutoencoderParameters(), max_steps=total)
    order = Order(spec, pictures("digits", 1437, 360), Path(), ignore)
    rows = Rows(train, batch)

    looked_at = num_test_rows(order, rows, test, 2000)
    config = training_config(order, rows, num_test=looked_at)

    assert looked_at <= min(test, 2000)
    assert ("steps" if looked_at else "no") == config.eval_strategy
    # The last one is at the last step, whatever is left over.
    assert config.eval_steps is not None
    count = -(-total // config.eval_steps)
    assert 1 <= count <= 20
    assert looked_at <= 500 or looked_at * count <= max(2 * looked_at, 0.5 * total * batch)


def test_pictures_that_do_not_fit_in_memory_are_refused_before_they_are_read(
    digits: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "_available_bytes", lambda: 100_000)

    with pytest.raises(CannotTrain, match="1,437 pictures of 8 pixels a side take"):
        built(AutoencoderParameters(), digits, tmp_path)


def test_a_parent_whose_files_were_changed_is_refused(digits: Stored, tmp_path: Path) -> None:
    trainer, _ = trained(AutoencoderParameters(), digits, tmp_path, max_steps=1)
    export_model(trainer, digits, tmp_path / "model")
    with (tmp_path / "model" / "net" / "weights.safetensors").open("ab") as file:
        file.write(b"more")

    with pytest.raises(ArtifactRefused):
        built(AutoencoderParameters(), digits, tmp_path, parent=tmp_path / "model")


def test_a_model_without_its_whole_net_is_no_parent(digits: Stored, tmp_path: Path) -> None:
    with pytest.raises(CannotTrain, match="holds nothing that training could go on from"):
        built(AutoencoderParameters(), digits, tmp_path, parent=tmp_path)


def test_what_a_trainer_refuses_is_said_in_words() -> None:
    problem = Problem(("options", "kl_warmup_steps"), "has no meaning for plain")

    with pytest.raises(CannotTrain) as found, in_words():
        raise InvalidConfig([problem])

    assert "kl warmup steps has no meaning for plain" == found.value.message
    assert "INVALID_INPUT" == found.value.code
