"""Operators' models that learn new classes, out of a training's parameters."""

from typing import Any, NamedTuple, cast

from torch import Tensor

from bus.messages.training import FineTuneParameters
from workers.nets.contracts import ImageInput, TokensInput
from workers.nets.pretrained import Pretrained, load_lite0, load_minilm
from workers.train.configs import FineTuneOptions, OptimizerOptions
from workers.train.data.labelled import labelled_pictures, labelled_texts
from workers.train.run.hosted import FineTuneTrainer
from workers.train.run.order import TEST, TRAIN, Order, Split
from workers.train.run.parents import take_weights
from workers.train.run.problems import UNAVAILABLE, CannotTrain
from workers.train.run.rows import (
    Channels,
    drawn,
    ensure_classes,
    ensure_fits,
    labelled_rows,
    pictures_of,
    read_pictures,
)
from workers.train.run.settings import (
    Rows,
    common_options,
    ensure_batches,
    num_test_rows,
    total_steps_of,
    training_config,
)
from workers.train.run.tokens import ensure_texts

_LITE0, _MINILM = "efficientnet_lite0", "minilm"
_BASES = {"images": _LITE0, "texts": _MINILM}
_MOST_TEST = 2000
#: Learning rate of the encoder as a share of the classifier's, where both learn.
_BACKBONE_RATES = {_LITE0: 0.3, _MINILM: 0.05}
_WEIGHT_DECAY = 0.01
_COLOURS: Channels = 3


class _Kept(NamedTuple):
    """Numbers and labels of the rows of a split that are used."""

    rows: Tensor
    labels: Tensor


def build_fine_tune(order: Order, parameters: FineTuneParameters) -> FineTuneTrainer:
    """The trainer.

    Raises:
        CannotTrain, InvalidConfig: data and parameters don't fit each other.
    """
    kind = order.ensure_kind("Fine-tuning", *_BASES)
    base = _BASES[kind] if parameters.base == "auto" else parameters.base
    if base != _BASES[kind]:
        raise CannotTrain(
            f"{base} takes {'texts' if base == _MINILM else 'pictures'}, and the data set is one of {kind}",
            "Leave base at auto.",
        )
    labels, test_labels = order.labels(TRAIN), order.labels(TEST)
    ensure_classes(order, labels, "Fine-tuning")
    train = _Kept(labelled_rows(labels), labels[labelled_rows(labels)])
    ensure_batches(len(train.rows), parameters.batch_size, what="labelled rows")
    rows = Rows(len(train.rows), parameters.batch_size)
    test_rows = labelled_rows(test_labels)
    test_rows = test_rows[
        drawn(order, len(test_rows), num_test_rows(order, rows, len(test_rows), _MOST_TEST))
    ]
    test = _Kept(test_rows, test_labels[test_rows])
    found = _pretrained(base, parameters)
    read = _pictures if kind == "images" else _texts
    config = training_config(order, rows, num_test=len(test.rows), metric="Accuracy")
    trainer = FineTuneTrainer(
        found.net,
        config,
        read(order, found, TRAIN, train),
        read(order, found, TEST, test) if len(test.rows) else None,
        options=_options(order, parameters, rows, base),
        report=order.report,
    )
    if order.parent is not None:
        take_weights(trainer.model, trainer.whole_net(), order.parent)
    trainer.describe_input(found.input, found.tokenizer)
    return trainer


def _pretrained(base: str, parameters: FineTuneParameters) -> Pretrained:
    try:
        return load_lite0(parameters.image_size) if base == _LITE0 else load_minilm(parameters.max_length)
    except ModuleNotFoundError as error:
        raise CannotTrain(f"{base} is not installed with this worker", code=UNAVAILABLE) from error


def _options(order: Order, parameters: FineTuneParameters, rows: Rows, base: str) -> FineTuneOptions:
    is_probe = parameters.method == "probe"
    freezes = is_probe or parameters.frozen_stages > 0
    # What is drawn or written in grey may mean something else in a mirror.
    mirrors = base == _LITE0 and not freezes and pictures_of(order).channels == _COLOURS
    learning: dict[str, Any] = {}
    if not is_probe:
        learning = {
            "frozen_stages": parameters.frozen_stages,
            "rate_decay": parameters.rate_decay,
            "backbone_rate": _BACKBONE_RATES[base],
        }
    return FineTuneOptions(
        **common_options(order, rows),
        **learning,
        num_classes=order.num_classes,
        method=parameters.method,
        augment="mirror" if mirrors else "none",
        # Rows are only worth computing once that are seen twice.
        cache=not freezes or total_steps_of(order, rows) > rows.steps_per_epoch,
        optimizers={"main": OptimizerOptions(name="AdamW", arguments={"weight_decay": _WEIGHT_DECAY})},
    )


def _pictures(order: Order, found: Pretrained, split: Split, kept: _Kept) -> tuple[Tensor, Tensor]:
    contract = cast("ImageInput", found.input)
    ensure_fits(
        order,
        len(kept.rows) * _COLOURS * contract.side**2,
        f"{len(kept.rows):,} pictures of {contract.side} pixels a side",
    )
    # At their own size where they have one: then they are resized once, as the encoder's users do.
    native = pictures_of(order).side or contract.side
    x_NCHW = read_pictures(order, split, side=native, channels=_COLOURS)
    return labelled_pictures(x_NCHW[kept.rows], kept.labels, contract)


def _texts(order: Order, found: Pretrained, split: Split, kept: _Kept) -> Any:  # noqa: ANN401  named columns
    texts = order.texts(split)
    rows = [(texts[row], label) for row, label in zip(kept.rows.tolist(), kept.labels.tolist(), strict=True)]
    ensure_texts([text for text, _ in rows])
    if found.tokenizer is None:
        raise TypeError("an encoder of texts has words")
    return labelled_texts(rows, cast("TokensInput", found.input), found.tokenizer)
