"""Generative adversarial nets out of a training's parameters.

Legend: N rows, C channels, H height, W width.
"""

from typing import Any

from bus.messages.training import GanParameters
from workers.nets.contracts import ImageInput
from workers.nets.parts import Net
from workers.nets.table import build_net
from workers.train.configs import GANOptions, OptimizerOptions
from workers.train.run.hosted import GANTrainer, unit_pictures
from workers.train.run.order import TEST, TRAIN, Order
from workers.train.run.parents import take_weights
from workers.train.run.rows import (
    drawn,
    ensure_classes,
    has_labels,
    labelled_rows,
    pictures_of,
    read_pictures,
)
from workers.train.run.settings import (
    Rows,
    common_options,
    ensure_batches,
    num_test_rows,
    training_config,
)

SIDES = (28, 32, 64)
#: Test pictures that are looked at, and pictures that are made to be compared with them.
_MOST_TEST, _FID_PICTURES = 1000, 1000
#: Labelled pictures without which a judge says nothing.
_LEAST_LABELLED, _LEAST_TEST = 2000, 500
_JUDGE_EPOCHS = 3
#: The slope at real pictures is looked at every so often, and counts for the updates between.
_R1_EVERY = 4
#: Units of the discriminator's hidden layer for each of its first maps.
_HIDDEN_PER_MAP = 8


def side_of(pictures_side: int | None, asked: int | None) -> int:
    """The side of the generated pictures: as asked, or the smallest that loses nothing, or the greatest."""
    if asked is not None:
        return asked
    return next((side for side in SIDES if pictures_side is not None and side >= pictures_side), SIDES[-1])


def build_gan(order: Order, parameters: GanParameters) -> GANTrainer:
    """The trainer.

    Raises:
        CannotTrain, InvalidConfig: data and parameters don't fit each other.
    """
    order.ensure_kind("A GAN", "images")
    found = pictures_of(order)
    side = side_of(found.side, parameters.image_size)
    train_x = read_pictures(order, TRAIN, side=side, channels=found.channels)
    train_y = order.labels(TRAIN)
    if parameters.conditional:
        ensure_classes(order, train_y, "A GAN that is asked for classes")
        kept = labelled_rows(train_y)
        train_x, train_y = train_x[kept], train_y[kept]
    ensure_batches(len(train_x), parameters.batch_size, what="pictures")
    rows = Rows(len(train_x), parameters.batch_size, parameters.n_critic)
    test_x = read_pictures(order, TEST, side=side, channels=found.channels)
    test_y = order.labels(TEST)
    if parameters.conditional:
        kept = labelled_rows(test_y)
        test_x, test_y = test_x[kept], test_y[kept]
    chosen = drawn(order, len(test_x), num_test_rows(order, rows, len(test_x), _MOST_TEST))
    net = _net(order, parameters, found.channels, side)
    if order.parent is not None:
        take_weights(net, net, order.parent)
    is_judged = len(labelled_rows(train_y)) >= _LEAST_LABELLED and len(chosen) >= _LEAST_TEST
    options = GANOptions(
        **common_options(order, rows),
        **_game(parameters, channels=found.channels),
        fid_samples=_FID_PICTURES if is_judged and has_labels(order) else 0,
        judge_epochs=_JUDGE_EPOCHS,
    )
    trainer = GANTrainer(
        net,
        training_config(order, rows, num_test=len(chosen)),
        (train_x, train_y),
        (test_x[chosen], test_y[chosen]) if len(chosen) else None,
        options=options,
        report=order.report,
    )
    trainer.unpack = unit_pictures
    trainer.describe_input(ImageInput(side=side, channels=found.channels))
    return trainer


def _net(order: Order, parameters: GanParameters, channels: int, side: int) -> Net:
    config: dict[str, Any] = {
        "channels": channels,
        "side": side,
        "latent_dim": parameters.latent_dim,
        "width": parameters.width,
        "hidden": _HIDDEN_PER_MAP * parameters.width,
        "num_classes": order.num_classes if parameters.conditional else 0,
        "discriminator_norm": _norm(parameters),
    }
    return build_net("gan", config)


def _norm(parameters: GanParameters) -> str:
    """Spectral norm is hinge's, and a penalty on slopes takes a norm that looks at one picture at a time."""
    if parameters.loss == "hinge":
        return "spectral"
    return "none" if parameters.loss == "wasserstein_gp" or parameters.r1 else "batch"


def _game(parameters: GanParameters, *, channels: int) -> dict[str, Any]:
    """What is particular to the loss."""
    betas = [0.5, 0.9 if parameters.loss == "wasserstein_gp" else 0.999]
    slow = parameters.discriminator_learning_rate or parameters.learning_rate
    changes = ("translation", "cutout") if channels == 1 else ("color", "translation", "cutout")
    return {
        "loss": parameters.loss,
        "n_critic": parameters.n_critic,
        "r1": parameters.r1,
        "r1_every": _R1_EVERY if parameters.r1 else 1,
        "augment": changes if parameters.diff_augment else (),
        "ema": {"g": parameters.ema_decay},
        "optimizers": {
            "g": OptimizerOptions(lr=parameters.learning_rate, arguments={"betas": betas}),
            "d": OptimizerOptions(lr=slow, arguments={"betas": betas}),
        },
    }
