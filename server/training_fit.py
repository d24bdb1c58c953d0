"""Whether a trainer can learn from a data set, in words with advice."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from bus.messages import (
    AutoencoderParameters,
    FineTuneParameters,
    GanParameters,
    RnnParameters,
    SemiSupervisedParameters,
    TrainerParameters,
)
from server.field_problems import FieldProblem
from server.training_records import DatasetKind, DatasetRecord

#: The request's own field, beside those of the trainer.
_DATASET: Final = ("dataset_id",)
#: To tell one from another.
_FEWEST_CLASSES: Final = 2

_CALLED: Final[Mapping[DatasetKind, str]] = MappingProxyType(
    {
        DatasetKind.IMAGES: "pictures",
        DatasetKind.TEXTS: "texts",
        DatasetKind.TAGGED: "tagged sentences",
        DatasetKind.PAIRS: "pairs of texts",
        DatasetKind.NUMBERS: "rows of numbers",
    }
)
_TASK_DATA: Final[Mapping[str, DatasetKind]] = MappingProxyType(
    {
        "language_model": DatasetKind.TEXTS,
        "classifier": DatasetKind.TEXTS,
        "tagger": DatasetKind.TAGGED,
        "seq2seq": DatasetKind.PAIRS,
    }
)
_BASE_DATA: Final[Mapping[str, DatasetKind]] = MappingProxyType(
    {"efficientnet_lite0": DatasetKind.IMAGES, "minilm": DatasetKind.TEXTS}
)


def fit_problems(parameters: TrainerParameters, dataset: DatasetRecord) -> list[FieldProblem]:
    """Return what keeps these parameters and this data set, which is READY, from going together.

    Paths are relative to the parameters; ``("dataset_id",)`` is the data set itself.
    """
    problems = list(_CHECKS[type(parameters)](parameters, dataset))
    if not _is_language_model(parameters, dataset) and parameters.batch_size > dataset.num_train:
        problems.append(
            FieldProblem(
                path=("batch_size",),
                message=f"batch_size is {parameters.batch_size}, and the data set has {dataset.num_train}"
                " rows to train on: choose less, or add rows.",
            )
        )
    return problems


def _is_language_model(parameters: TrainerParameters, dataset: DatasetRecord) -> bool:
    """Whether a batch is of so many places in one long text, however many rows that has."""
    if not isinstance(parameters, RnnParameters) or dataset.kind is not DatasetKind.TEXTS:
        return False
    return parameters.task == "language_model" or (parameters.task == "auto" and not dataset.classes)


def _gan(parameters: GanParameters, dataset: DatasetRecord) -> Iterator[FieldProblem]:
    yield from _kinds("A GAN", dataset, DatasetKind.IMAGES)
    if parameters.conditional and not dataset.classes:
        yield FieldProblem(
            path=("conditional",),
            message="conditional asks for classes, and the data set has none: leave it out, or add labels.",
        )


def _autoencoder(_: AutoencoderParameters, dataset: DatasetRecord) -> Iterator[FieldProblem]:
    yield from _kinds("An autoencoder", dataset, DatasetKind.IMAGES, DatasetKind.TEXTS, DatasetKind.NUMBERS)


def _rnn(parameters: RnnParameters, dataset: DatasetRecord) -> Iterator[FieldProblem]:
    if parameters.task == "auto":
        yield from _kinds("An RNN", dataset, DatasetKind.TEXTS, DatasetKind.TAGGED, DatasetKind.PAIRS)
        return
    wanted = _TASK_DATA[parameters.task]
    if dataset.kind is not wanted:
        yield FieldProblem(
            path=("task",),
            message=f"task {parameters.task} learns from {_CALLED[wanted]}, and the data set holds"
            f" {_called(dataset)}: choose another task or another data set.",
        )
    elif parameters.task == "classifier":
        yield from _classes("A classifier", dataset)


def _semi_supervised(parameters: SemiSupervisedParameters, dataset: DatasetRecord) -> Iterator[FieldProblem]:
    wrong = [*_kinds("Semi-supervised learning", dataset, DatasetKind.IMAGES, DatasetKind.TEXTS)]
    wrong += _classes("Semi-supervised learning", dataset)
    yield from wrong
    # Behind the count of each class there may be one of the rows without a label.
    counts = dict(zip(dataset.classes, dataset.class_counts, strict=False))
    if wrong or parameters.labels_per_class is None or not counts:
        return
    rarest = min(counts, key=lambda name: counts[name])
    if parameters.labels_per_class > counts[rarest]:
        yield FieldProblem(
            path=("labels_per_class",),
            message=f"labels_per_class is {parameters.labels_per_class}, and the class {rarest} has"
            f" {counts[rarest]} rows: choose less, or leave it out to keep all labels.",
        )


def _fine_tune(parameters: FineTuneParameters, dataset: DatasetRecord) -> Iterator[FieldProblem]:
    wrong = [*_kinds("Fine-tuning", dataset, DatasetKind.IMAGES, DatasetKind.TEXTS)]
    yield from wrong
    yield from _classes("Fine-tuning", dataset)
    wanted = _BASE_DATA.get(parameters.base)
    if not wrong and wanted is not None and dataset.kind is not wanted:
        yield FieldProblem(
            path=("base",),
            message=f"base {parameters.base} is for {_CALLED[wanted]}, and the data set holds"
            f" {_called(dataset)}: leave it out, and the base is chosen by the data.",
        )


def _kinds(who: str, dataset: DatasetRecord, *wanted: DatasetKind) -> Iterator[FieldProblem]:
    if dataset.kind not in wanted:
        names = [_CALLED[kind] for kind in wanted]
        listed = " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
        yield FieldProblem(
            path=_DATASET,
            message=f"{who} learns from {listed}, and the data set holds {_called(dataset)}:"
            " choose another data set or another trainer.",
        )


def _classes(who: str, dataset: DatasetRecord) -> Iterator[FieldProblem]:
    if len(dataset.classes) < _FEWEST_CLASSES:
        has = "one class" if dataset.classes else "no labels"
        yield FieldProblem(
            path=_DATASET,
            message=f"{who} needs rows of at least {_FEWEST_CLASSES} classes, and the data set has {has}.",
        )


def _called(dataset: DatasetRecord) -> str:
    return "nothing" if dataset.kind is None else _CALLED[dataset.kind]


# By type, so that each check is of the parameters that it takes.
_Check = Callable[[Any, DatasetRecord], Iterator[FieldProblem]]
_CHECKS: Final[Mapping[type[TrainerParameters], _Check]] = MappingProxyType(
    {
        GanParameters: _gan,
        AutoencoderParameters: _autoencoder,
        RnnParameters: _rnn,
        SemiSupervisedParameters: _semi_supervised,
        FineTuneParameters: _fine_tune,
    }
)
