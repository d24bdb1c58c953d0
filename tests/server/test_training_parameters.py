"""What a training is told is checked before it is queued, and every mistake is told at once."""

import math
import time
from datetime import UTC, datetime
from typing import Any, get_args
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.messages import GanParameters, RnnParameters, TrainerParameters
from server.errors import ErrorCode
from server.records import Modality
from server.training_parameters import FieldProblem, InvalidParameters, fit_problems, parse_parameters
from server.training_records import DatasetKind, DatasetRecord, DatasetStatus, TrainerKind

NAMES = sorted({name for struct in get_args(TrainerParameters) for name in struct.__struct_fields__})


def _problems(trainer: TrainerKind, given: dict[str, object]) -> dict[tuple[str, ...], str]:
    with pytest.raises(InvalidParameters) as refusal:
        parse_parameters(trainer, given)
    assert (ErrorCode.INVALID_INPUT, refusal.value.problems[0].path) == (
        refusal.value.code,
        refusal.value.path,
    )
    return {problem.path: problem.message for problem in refusal.value.problems}


def _dataset(kind: DatasetKind, **changes: Any) -> DatasetRecord:  # noqa: ANN401 - any field
    return msgspec.structs.replace(
        DatasetRecord(
            id=uuid4(),
            user_id=uuid4(),
            name="mine",
            version=1,
            status=DatasetStatus.READY,
            kind=kind,
            modality=Modality.IMAGE if kind is DatasetKind.IMAGES else Modality.TEXT,
            sha256="0" * 64,
            num_rows=1000,
            classes=["cat", "dog"],
            class_counts=[600, 300, 100],
            num_unlabelled=100,
            shape=None,
            num_train=900,
            num_test=100,
            issues=[],
            num_issues=0,
            created_at=datetime.now(UTC),
        ),
        **changes,
    )


def _misfits(trainer: TrainerKind, given: dict[str, object], dataset: DatasetRecord) -> list[tuple[str, ...]]:
    problems = fit_problems(parse_parameters(trainer, given), dataset)
    assert all(problem.message.endswith(".") for problem in problems)
    return [problem.path for problem in problems]


@pytest.mark.parametrize("trainer", TrainerKind)
def test_nothing_has_to_be_given(trainer: TrainerKind) -> None:
    parameters = parse_parameters(trainer, {})

    assert trainer.value == type(parameters).__struct_config__.tag
    assert [] == list(parameters.contradictions())


def test_what_is_given_is_kept() -> None:
    given = {"loss": "hinge", "learning_rate": 1, "conditional": True, "grad_clip": None, "epochs": 3}

    parsed = parse_parameters(TrainerKind.GAN, given)

    assert GanParameters(loss="hinge", learning_rate=1.0, conditional=True, epochs=3) == parsed


def test_all_mistakes_are_told_each_beside_its_field() -> None:
    problems = _problems(
        TrainerKind.RNN,
        {
            "lerning_rate": 0.1,
            "epochs": 0,
            "batch_size": "many",
            "dropout": 1,
            "cell": "rnn",
            "grad_clip": math.nan,
            "prompt": 1,
            "hidden": True,
        },
    )

    assert {
        ("lerning_rate",): "lerning_rate is no parameter of RNN; did you mean learning_rate?",
        ("epochs",): "epochs must be a whole number of at least 1 and of at most 10,000.",
        ("batch_size",): "batch_size must be a whole number of at least 2 and of at most 4,096.",
        ("dropout",): "dropout must be a number of at least 0 and below 1.",
        ("cell",): "cell must be one of gru, lstm.",
        ("grad_clip",): "grad_clip must be a number above 0 and of at most 10 or left out.",
        ("prompt",): "prompt must be a text of at most 1000 characters.",
        ("hidden",): "hidden must be a whole number of at least 8 and of at most 2,048.",
    } == problems


def test_a_refusal_says_how_many_problems_there_are() -> None:
    with pytest.raises(InvalidParameters, match=r"^epochs must .*\. Problems in all: 2\.$"):
        parse_parameters(TrainerKind.GAN, {"epochs": 0, "width": 0})


@pytest.mark.parametrize(
    ("trainer", "given", "at"),
    [
        (TrainerKind.GAN, {"loss": "wasserstein_gp", "r1": 1.0}, "r1"),
        (TrainerKind.AUTOENCODER, {"kind": "vae", "beta": 4.0}, "beta"),
        (TrainerKind.AUTOENCODER, {"kl_warmup_steps": 10}, "kl_warmup_steps"),
        (TrainerKind.FINE_TUNE, {"method": "probe", "rate_decay": 0.5}, "rate_decay"),
    ],
)
def test_what_has_no_meaning_together_is_told(
    trainer: TrainerKind, given: dict[str, object], at: str
) -> None:
    problems = _problems(trainer, given)

    assert [(at,)] == list(problems)
    assert problems[(at,)].startswith(f"{at} ")


def test_a_contradiction_is_told_beside_other_mistakes_but_not_when_it_hangs_on_one() -> None:
    assert {("epochs",), ("beta",)} == set(
        _problems(TrainerKind.AUTOENCODER, {"epochs": 0, "kind": "plain", "beta": 2.0})
    )
    assert [("kind",)] == list(_problems(TrainerKind.AUTOENCODER, {"kind": "beta-vae", "beta": 2.0}))


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from(["hinge", "vae", "\ud800", 10**400, 2**64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    trainer=st.sampled_from(list(TrainerKind)),
    given=st.dictionaries(st.sampled_from(NAMES) | st.text(), JUNK, max_size=12),
)
def test_whatever_is_given_is_taken_or_refused_with_a_problem_for_a_field(
    trainer: TrainerKind, given: dict[str, object]
) -> None:
    problems: tuple[FieldProblem, ...] = ()
    try:
        parameters = parse_parameters(trainer, given)
    except InvalidParameters as refusal:
        problems = refusal.problems

    if problems:
        assert all(problem.message.isprintable() for problem in problems)
        return
    raw = msgspec.msgpack.encode(parameters)
    assert parameters == msgspec.msgpack.decode(raw, type=type(parameters))
    numbers = [one for one in msgspec.structs.asdict(parameters).values() if isinstance(one, float)]
    assert all(map(math.isfinite, numbers))


def test_a_thousand_unknown_names_are_refused_soon_and_in_few_words() -> None:
    given = {f"{number}{'x' * 1000}": 1 for number in range(1000)}

    began = time.perf_counter()
    problems = _problems(TrainerKind.GAN, given)

    assert time.perf_counter() - began < 1
    assert len(problems) <= 50
    assert sum(map(len, problems.values())) < 10_000


@pytest.mark.parametrize(
    ("trainer", "given", "dataset", "misfits"),
    [
        (TrainerKind.GAN, {}, _dataset(DatasetKind.IMAGES), []),
        (TrainerKind.GAN, {}, _dataset(DatasetKind.TEXTS), ["dataset_id"]),
        (TrainerKind.GAN, {"conditional": True}, _dataset(DatasetKind.IMAGES), []),
        (TrainerKind.GAN, {"conditional": True}, _dataset(DatasetKind.IMAGES, classes=[]), ["conditional"]),
        (TrainerKind.AUTOENCODER, {}, _dataset(DatasetKind.NUMBERS), []),
        (TrainerKind.AUTOENCODER, {}, _dataset(DatasetKind.PAIRS), ["dataset_id"]),
        (TrainerKind.RNN, {}, _dataset(DatasetKind.TAGGED), []),
        (TrainerKind.RNN, {}, _dataset(DatasetKind.IMAGES), ["dataset_id"]),
        (TrainerKind.RNN, {"task": "tagger"}, _dataset(DatasetKind.TAGGED), []),
        (TrainerKind.RNN, {"task": "tagger"}, _dataset(DatasetKind.TEXTS), ["task"]),
        (TrainerKind.RNN, {"task": "seq2seq"}, _dataset(DatasetKind.TAGGED), ["task"]),
        (TrainerKind.RNN, {"task": "language_model"}, _dataset(DatasetKind.PAIRS), ["task"]),
        (TrainerKind.RNN, {"task": "classifier"}, _dataset(DatasetKind.TEXTS, classes=["a"]), ["dataset_id"]),
        (TrainerKind.SEMI_SUPERVISED, {"labels_per_class": 300}, _dataset(DatasetKind.IMAGES), []),
        (
            TrainerKind.SEMI_SUPERVISED,
            {"labels_per_class": 301},
            _dataset(DatasetKind.IMAGES),
            ["labels_per_class"],
        ),
        (TrainerKind.SEMI_SUPERVISED, {}, _dataset(DatasetKind.TEXTS, classes=[]), ["dataset_id"]),
        (TrainerKind.FINE_TUNE, {"base": "minilm"}, _dataset(DatasetKind.TEXTS), []),
        (TrainerKind.FINE_TUNE, {"base": "minilm"}, _dataset(DatasetKind.IMAGES), ["base"]),
        (TrainerKind.FINE_TUNE, {}, _dataset(DatasetKind.NUMBERS), ["dataset_id"]),
        (TrainerKind.GAN, {"batch_size": 901}, _dataset(DatasetKind.IMAGES), ["batch_size"]),
    ],
)
def test_a_trainer_that_can_not_learn_from_the_data_says_so(
    trainer: TrainerKind, given: dict[str, object], dataset: DatasetRecord, misfits: list[str]
) -> None:
    assert [(name,) for name in misfits] == _misfits(trainer, given, dataset)


def test_a_language_model_learns_from_one_long_text() -> None:
    one_row = _dataset(DatasetKind.TEXTS, classes=[], class_counts=[], num_rows=1, num_train=1)

    assert [] == _misfits(TrainerKind.RNN, {"batch_size": 32}, one_row)
    assert [("batch_size",)] == _misfits(TrainerKind.AUTOENCODER, {"batch_size": 32}, one_row)


def test_advice_names_the_class_that_is_too_rare() -> None:
    [problem] = fit_problems(
        parse_parameters(TrainerKind.SEMI_SUPERVISED, {"labels_per_class": 400}), _dataset(DatasetKind.TEXTS)
    )

    assert (
        FieldProblem(
            path=("labels_per_class",),
            message="labels_per_class is 400, and the class dog has 300 rows: choose less, or leave it out to"
            " keep all labels.",
        )
        == problem
    )
    assert isinstance(parse_parameters(TrainerKind.RNN, {}), RnnParameters)
