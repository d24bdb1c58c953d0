"""Classifiers that learn from few labels out of a training's parameters.

Legend: N rows, C channels, H height, W width.
"""

from typing import Any, NamedTuple

from torch import Tensor

from bus.messages.training import SemiSupervisedParameters
from workers.nets.contracts import ImageInput, InputContract, TokensInput
from workers.nets.parts import Net
from workers.nets.table import build_net
from workers.train.configs import OptimizerOptions, SemiSupervisedGANOptions, SemiSupervisedOptions
from workers.train.data.vocabularies import UNKNOWN, encode_rows, word_tokenizer
from workers.train.run.gan import SIDES, side_of
from workers.train.run.hosted import (
    Hosted,
    SemiSupervisedGANTrainer,
    SemiSupervisedTrainer,
    Unpack,
    unit_pictures,
)
from workers.train.run.order import TEST, TRAIN, Order
from workers.train.run.parents import take_weights
from workers.train.run.problems import CannotTrain
from workers.train.run.rows import (
    Pictures,
    drawn,
    ensure_classes,
    keep_labels,
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
from workers.train.run.tokens import Words, ensure_texts

_MOST_TEST = 5000
#: Pictures are made no larger than this, and those of a GAN are at least as large as its nets can make.
_LEAST_SIDE, _MOST_SIDE, _LEAST_GAN_SIDE = 8, 64, 16
_DIMENSION = 64
_VOCABULARY, _MOST_TOKENS = 5000, 200
#: Shares of the words that the weak and the strong change leave out.
_WORD_DROPOUT = (0.2, 0.7)
#: Share of the training in which the unlabelled rows come to their weight.
_RAMPS = {"mean_teacher": 0.25, "pseudo_label": 0.5}
#: The generator of a classifier needs no variety.
_GAN_LATENT = 32
_MLP_GAN = {"latent_dim": 50, "generator": [500, 500], "discriminator": [500, 250, 250]}


class _Data(NamedTuple):
    """What is trained on, the net, and what is particular to the kind of data."""

    train: Any
    test: Any
    labels: Tensor
    num_test: int
    net: Net
    contract: InputContract
    augmentation: str
    unpack: Unpack | None = None
    words: Words | None = None


def build_semi_supervised(order: Order, parameters: SemiSupervisedParameters) -> Hosted:
    """The trainer.

    Raises:
        CannotTrain, InvalidConfig: data and parameters don't fit each other.
    """
    kind = order.ensure_kind("A semi-supervised classifier", "images", "texts")
    labels_N = order.labels(TRAIN)
    ensure_classes(order, labels_N, "A semi-supervised classifier")
    labels_N = keep_labels(order, labels_N, parameters.labels_per_class)
    ensure_batches(len(labels_N), parameters.batch_size)
    rows = Rows(len(labels_N), parameters.batch_size * parameters.unlabelled_ratio)
    if kind == "images":
        data = _of_images(order, parameters, labels_N, rows)
    elif parameters.method == "gan":
        raise CannotTrain("a GAN generates no texts", "Choose another method for texts.")
    else:
        data = _of_texts(order, labels_N, rows)
    if order.parent is not None:
        take_weights(data.net, data.net, order.parent)
    trainer = _trainer(order, parameters, data, rows)
    trainer.unpack = data.unpack
    trainer.describe_input(data.contract, data.words and data.words.tokenizer)
    return trainer


def _trainer(order: Order, parameters: SemiSupervisedParameters, data: _Data, rows: Rows) -> Hosted:
    config = training_config(order, rows, num_test=data.num_test, metric="Accuracy")
    test = data.test if data.num_test else None
    common = common_options(order, rows)
    if parameters.method == "gan":
        adam = OptimizerOptions(arguments={"betas": [0.5, 0.999]})
        game = SemiSupervisedGANOptions(
            **common,
            lambda_u=parameters.lambda_u,
            unlabelled_ratio=parameters.unlabelled_ratio,
            augment=("translation", "cutout") if data.net.net_name == "gan" else (),
            ema={"g": 0.995, "d": parameters.ema_decay},
            optimizers={"g": adam, "d": adam},
        )
        return SemiSupervisedGANTrainer(data.net, config, data.train, test, options=game, report=order.report)
    options = SemiSupervisedOptions(
        **common,
        method=parameters.method,
        augmentation=data.augmentation,  # type: ignore[arg-type]  # one of its names
        unlabelled_ratio=parameters.unlabelled_ratio,
        threshold=parameters.threshold,
        lambda_u=parameters.lambda_u,
        ema=parameters.ema_decay,
        ramp="sigmoid" if parameters.method == "mean_teacher" else "linear",
        ramp_steps=int(_RAMPS.get(parameters.method, 0) * total_steps_of(order, rows)),
        student_view="strong" if parameters.method == "mean_teacher" else "weak",
        word_dropout=_WORD_DROPOUT,
        unknown_word=UNKNOWN,
    )
    return SemiSupervisedTrainer(data.net, config, data.train, test, options=options, report=order.report)


def _of_images(order: Order, parameters: SemiSupervisedParameters, labels_N: Tensor, rows: Rows) -> _Data:
    found = pictures_of(order)
    side = max(_LEAST_SIDE, min(_MOST_SIDE, found.side or _MOST_SIDE))
    if parameters.method == "gan" and side > _LEAST_GAN_SIDE:
        side = side_of(side, None)
    train_x = read_pictures(order, TRAIN, side=side, channels=found.channels)
    test_x, test_y = read_pictures(order, TEST, side=side, channels=found.channels), order.labels(TEST)
    chosen = _chosen(order, test_y, rows)
    return _Data(
        (train_x, labels_N),
        (test_x[chosen], test_y[chosen]),
        labels_N,
        len(chosen),
        _picture_net(order, parameters, found._replace(side=side)),
        ImageInput(side=side, channels=found.channels),
        "digits" if found.channels == 1 else "photos",
        unit_pictures,
    )


def _picture_net(order: Order, parameters: SemiSupervisedParameters, pictures: Pictures) -> Net:
    channels, side = pictures
    if parameters.method != "gan":
        sizes = {"width": parameters.width, "dimension": _DIMENSION, "num_classes": order.num_classes}
        return build_net("conv_classifier", {"channels": channels, "side": side, **sizes})
    if side not in SIDES:
        shape = [channels, side, side]
        return build_net("mlp_gan", {"shape": shape, "num_outputs": order.num_classes, **_MLP_GAN})
    config: dict[str, Any] = {
        "channels": channels,
        "side": side,
        "width": parameters.width,
        "latent_dim": _GAN_LATENT,
        "discriminator_norm": "none",
        "num_outputs": order.num_classes,
    }
    return build_net("gan", config)


def _of_texts(order: Order, labels_N: Tensor, rows: Rows) -> _Data:
    texts, test_texts, test_y = order.texts(TRAIN), order.texts(TEST), order.labels(TEST)
    ensure_texts(texts)
    tokenizer = order.tokenizer_of_parent() or word_tokenizer(texts, _VOCABULARY)
    chosen = _chosen(order, test_y, rows)
    kept = [test_texts[row] for row in chosen.tolist()]
    net = {
        "vocabulary_size": tokenizer.get_vocab_size(),
        "max_length": _MOST_TOKENS,
        "num_classes": order.num_classes,
        "dimension": _DIMENSION,
    }
    return _Data(
        {"ids": encode_rows(tokenizer, texts, most=_MOST_TOKENS), "labels": labels_N},
        {"ids": encode_rows(tokenizer, kept, most=_MOST_TOKENS), "labels": test_y[chosen]},
        labels_N,
        len(chosen),
        build_net("pooled_words", net),
        TokensInput(max_length=_MOST_TOKENS),
        "words",
        words=Words(tokenizer),
    )


def _chosen(order: Order, test_y: Tensor, rows: Rows) -> Tensor:
    kept = labelled_rows(test_y)
    return kept[drawn(order, len(kept), num_test_rows(order, rows, len(kept), _MOST_TEST))]
