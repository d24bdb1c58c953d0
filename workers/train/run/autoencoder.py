"""Autoencoders of pictures, of texts and of rows of numbers out of a training's parameters.

Legend: N rows, F numbers of a row.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bus.messages.training import AutoencoderParameters
from workers.nets.contracts import BagInput, FeaturesInput, ImageInput, InputContract
from workers.nets.parts import Net
from workers.nets.table import build_net
from workers.train.configs import AutoencoderOptions
from workers.train.data.loaders import Ragged
from workers.train.data.vocabularies import SPECIALS, encode_rows, word_tokenizer
from workers.train.run.hosted import AutoencoderTrainer, Counting, Unpack, unit_pictures
from workers.train.run.order import TEST, TRAIN, Order
from workers.train.run.parents import take_weights
from workers.train.run.problems import CannotTrain
from workers.train.run.rows import drawn, pictures_of, read_pictures
from workers.train.run.settings import (
    Rows,
    common_options,
    ensure_batches,
    num_test_rows,
    training_config,
)
from workers.train.run.tokens import Words, ensure_texts

_MOST_TEST = 2000
#: Pictures are made no larger than this; convolutions halve the side twice, and need this much to be of use.
_MOST_SIDE, _LEAST_CONVOLVED = 64, 16
_HIDDEN, _TEXT_HIDDEN = 400, 256
_LEAST_HIDDEN, _HIDDEN_PER_NUMBER = 64, 4
#: One word in so many is left out of the counts: the most frequent ones say nothing of what a text is about.
_WORDS_PER_STOP_WORD = 50
#: Width of a code is no more than this.
_MOST_CODE = 64


class _Data(NamedTuple):
    """What is trained on, what it is counted as, and what is particular to the kind of data."""

    train: Any
    test: Any
    num_train: int
    num_test: int
    net: Net
    contract: InputContract
    reconstruction: str
    unpack: Unpack | None = None
    words: Words | None = None
    columns: tuple[Tensor, Tensor] | None = None


def build_autoencoder(order: Order, parameters: AutoencoderParameters) -> AutoencoderTrainer:
    """The trainer.

    Raises:
        CannotTrain, InvalidConfig: data and parameters don't fit each other.
    """
    kind = order.ensure_kind("An autoencoder", *_KINDS)
    if parameters.kind == "vq_vae" and (kind != "images" or parameters.net == "mlp"):
        raise CannotTrain(
            "A vq_vae codes places of pictures, and needs pictures and convolutions",
            "Choose another kind of autoencoder, or leave net at auto.",
        )
    data = _KINDS[kind](order, parameters)
    rows = Rows(data.num_train, parameters.batch_size)
    if order.parent is not None:
        take_weights(data.net, data.net, order.parent)
    options = AutoencoderOptions(
        **common_options(order, rows),
        kind=parameters.kind,
        reconstruction=data.reconstruction,  # type: ignore[arg-type]  # one of its names
        noise="mask" if kind == "texts" else "gaussian",
        noise_level=min(1.0, parameters.noise_level) if kind == "texts" else parameters.noise_level,
        beta=parameters.beta,
        kl_warmup_steps=parameters.kl_warmup_steps,
    )
    trainer = AutoencoderTrainer(
        data.net,
        training_config(order, rows, num_test=data.num_test),
        data.train,
        data.test if data.num_test else None,
        options=options,
        report=order.report,
    )
    trainer.unpack, trainer.columns = data.unpack, data.columns
    trainer.describe_input(data.contract, data.words and data.words.tokenizer)
    return trainer


def _sizes(parameters: AutoencoderParameters) -> dict[str, Any]:
    variational = parameters.kind in {"vae", "beta_vae"}
    return {"latent_dim": parameters.latent_dim, "variational": variational}


def _of_images(order: Order, parameters: AutoencoderParameters) -> _Data:
    found = pictures_of(order)
    side = min(_MOST_SIDE, found.side or _MOST_SIDE)
    convolves = parameters.net == "auto" and side >= _LEAST_CONVOLVED
    if parameters.kind == "vq_vae":
        convolves, side = True, max(_LEAST_CONVOLVED, side)
    if convolves:
        side += -side % 4
    train_x = read_pictures(order, TRAIN, side=side, channels=found.channels)
    ensure_batches(len(train_x), parameters.batch_size, what="pictures")
    rows = Rows(len(train_x), parameters.batch_size)
    test_x = read_pictures(order, TEST, side=side, channels=found.channels)
    test_x = test_x[drawn(order, len(test_x), num_test_rows(order, rows, len(test_x), _MOST_TEST))]
    return _Data(
        train_x,
        test_x,
        len(train_x),
        len(test_x),
        _picture_net(parameters, found.channels, side, convolves=convolves),
        ImageInput(side=side, channels=found.channels),
        "unit_mse" if parameters.kind == "vq_vae" else "bce",
        unit_pictures,
    )


def _picture_net(parameters: AutoencoderParameters, channels: int, side: int, *, convolves: bool) -> Net:
    picture: dict[str, Any] = {"channels": channels, "side": side}
    if parameters.kind == "vq_vae":
        codes = {"num_codes": parameters.num_codes, "code_dim": min(_MOST_CODE, parameters.latent_dim)}
        return build_net("vq_autoencoder", {**picture, **codes})
    if convolves:
        return build_net("conv_autoencoder", {**picture, **_sizes(parameters)})
    shape = [channels, side, side]
    return build_net("mlp_autoencoder", {"shape": shape, "hidden": [_HIDDEN], **_sizes(parameters)})


def _of_texts(order: Order, parameters: AutoencoderParameters) -> _Data:
    texts, test_texts = order.texts(TRAIN), order.texts(TEST)
    ensure_texts(texts)
    ensure_batches(len(texts), parameters.batch_size, what="texts")
    tokenizer = order.tokenizer_of_parent() or word_tokenizer(texts, parameters.vocabulary_size)
    size = tokenizer.get_vocab_size()
    contract = BagInput(
        vocabulary_size=size,
        skip=len(SPECIALS) + (size - len(SPECIALS)) // _WORDS_PER_STOP_WORD,
    )
    rows = Rows(len(texts), parameters.batch_size)
    chosen = drawn(order, len(test_texts), num_test_rows(order, rows, len(test_texts), _MOST_TEST))
    net = {"shape": [size], "hidden": [_TEXT_HIDDEN], **_sizes(parameters)}
    return _Data(
        _counted(texts, Words(tokenizer)),
        _counted([test_texts[row] for row in chosen.tolist()], Words(tokenizer)),
        len(texts),
        len(chosen),
        build_net("mlp_autoencoder", net),
        contract,
        "multinomial",
        Counting(contract),
        Words(tokenizer),
    )


def _counted(texts: list[str], words: Words) -> dict[str, Ragged]:
    return {"ids": encode_rows(words.tokenizer, texts)} if texts else {}


def _of_numbers(order: Order, parameters: AutoencoderParameters) -> _Data:
    train_x = order.prepared.numbers(TRAIN)
    ensure_batches(len(train_x), parameters.batch_size)
    mean_F, spread_F = _columns(train_x)
    rows = Rows(len(train_x), parameters.batch_size)
    test_x = order.prepared.numbers(TEST) if order.num_rows(TEST) else train_x[:0]
    test_x = test_x[drawn(order, len(test_x), num_test_rows(order, rows, len(test_x), _MOST_TEST))]
    num_features = train_x.shape[1]
    hidden = min(_HIDDEN, max(_LEAST_HIDDEN, _HIDDEN_PER_NUMBER * num_features))
    net = {"shape": [num_features], "hidden": [hidden], **_sizes(parameters)}
    return _Data(
        (train_x - mean_F) / spread_F,
        (test_x - mean_F) / spread_F,
        len(train_x),
        len(test_x),
        build_net("columns_autoencoder", net),
        FeaturesInput(num_features=num_features),
        "mse",
        columns=(mean_F, spread_F),
    )


def _columns(x_NF: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the columns; 1 for those that never change."""
    rows = x_NF.double()
    mean_F, spread_F = rows.mean(0), rows.std(0, correction=0)
    return mean_F.float(), torch.where(spread_F > 0, spread_F, 1.0).float()


_KINDS: Mapping[str, Callable[[Order, AutoencoderParameters], _Data]] = MappingProxyType(
    {"images": _of_images, "texts": _of_texts, "numbers": _of_numbers}
)
