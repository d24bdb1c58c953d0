"""What each hyper-parameter means, for the descriptions of both faces.

Types, ranges and defaults are in the structs of ``bus.messages``; here is only what they can't say. A test
compares the names with the structs'.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

from bus.messages import (
    AutoencoderParameters,
    FineTuneParameters,
    GanParameters,
    GenerationSpec,
    RnnParameters,
    SemiSupervisedParameters,
)

Words = Mapping[str, str]

_COMMON: Words = {
    "epochs": "Passes over the data, where no number of steps is given.",
    "batch_size": "Rows that one step looks at.",
    "learning_rate": "How far one step goes: the greatest learning rate of the schedule.",
    "schedule": "How the learning rate goes on after the warm-up.",
    "warmup_steps": "Steps in which the learning rate grows from 0 to its greatest.",
    "grad_clip": "Greatest norm of a network's gradients. Null leaves them as they are.",
}
_GAN: Words = {
    "loss": "What generator and discriminator try to make small.",
    "image_size": "Side of the pictures in pixels. Null takes the smallest that holds the data's.",
    "width": "Maps of the discriminator's first layer; each halving of the picture doubles them.",
    "latent_dim": "Numbers that a picture is made of.",
    "conditional": "Whether the generator is asked for a class, which needs data with labels.",
    "n_critic": "Steps of the discriminator for each one of the generator.",
    "r1": "Weight of the penalty on the discriminator's gradients at real pictures; 0 is none.",
    "diff_augment": "Whether the discriminator sees pictures changed at random, which helps with few.",
    "discriminator_learning_rate": "The discriminator's learning rate. Null: the same as the generator's.",
    "ema_decay": "How much of the averaged generator, which is the one exported, each step keeps.",
}
_AUTOENCODER: Words = {
    "kind": "What the code between encoder and decoder is like.",
    "latent_dim": "Length of the code, and of the vectors that the model embeds with.",
    "net": "Layers of encoder and decoder.",
    "beta": "Weight of the code's divergence from a normal distribution, for a beta-VAE.",
    "kl_warmup_steps": "Steps in which that weight grows from 0, for a VAE and a beta-VAE.",
    "noise_level": "Standard deviation of the noise that a denoising one takes away again.",
    "num_codes": "Entries of the code book of a VQ-VAE.",
    "vocabulary_size": "Words that texts are counted by.",
}
_RNN: Words = {
    "task": "What is learned.",
    "cell": "The recurrent cell.",
    "hidden": "Numbers that a layer remembers.",
    "num_layers": "Recurrent layers, one above the other.",
    "embedding_dim": "Numbers that a token is made into.",
    "dropout": "Share of a layer's outputs that is left out at random in training.",
    "tokens": "What a text is cut into.",
    "vocabulary_size": "Tokens that are told apart; rarer ones are one.",
    "sequence_length": "Tokens through which a gradient runs back.",
    "sample_length": "Tokens of the text that a language model writes at each evaluation.",
    "prompt": "How that text begins.",
    "temperature": "How daring that text is: lower keeps to the likely.",
    "top_p": "The likeliest tokens that together have this probability are chosen from.",
}
_SEMI_SUPERVISED: Words = {
    "method": "How rows without a label are learned from.",
    "labels_per_class": "Keeps so many labels of each class and hides the others. Null keeps all there are.",
    "unlabelled_ratio": "Rows without a label in a step, for each one with.",
    "threshold": "How sure the classifier has to be of a row before it counts.",
    "lambda_u": "Weight of the rows without a label.",
    "ema_decay": "How much of the averaged classifier, which is the one exported, each step keeps.",
    "width": "Maps of the first layer; each halving of the picture doubles them.",
}
_FINE_TUNE: Words = {
    "base": "The hosted model that goes on learning.",
    "method": "What learns.",
    "frozen_stages": "Stages from the bottom that learn nothing.",
    "rate_decay": "Share of the learning rate that each stage gets of the one above.",
    "image_size": "Side of the pictures in pixels.",
    "max_length": "Tokens of a text that are looked at.",
}
_GENERATION: Words = {
    "count": "How many pictures or texts.",
    "seed": "The same seed makes the same again.",
    "label": "The class that a conditional generator is asked for. Null: all of them in turn.",
    "prompt": "How each text begins.",
    "temperature": "How daring texts are: lower keeps to the likely.",
    "top_p": "The likeliest tokens that together have this probability are chosen from.",
    "length": "Tokens of each text.",
}


def words_of(struct: type[msgspec.Struct]) -> Words:
    """Return what the fields of a struct mean, by name."""
    words: dict[type[msgspec.Struct], Words] = {
        GanParameters: {**_COMMON, **_GAN},
        AutoencoderParameters: {**_COMMON, **_AUTOENCODER},
        RnnParameters: {**_COMMON, **_RNN},
        SemiSupervisedParameters: {**_COMMON, **_SEMI_SUPERVISED},
        FineTuneParameters: {**_COMMON, **_FINE_TUNE},
        GenerationSpec: _GENERATION,
    }
    return words[struct]


def range_of(kind: inspect.Type) -> str:
    """Say what values a type takes, as "1 to 10,000"; nothing where that is plain.

    Of ``X | None`` it says what X takes.
    """
    match kind:
        case inspect.UnionType(types=types):
            return next((said for one in types if (said := range_of(one))), "")
        case inspect.IntType() | inspect.FloatType():
            return _bounds(kind)
        case inspect.StrType(max_length=int(longest)):
            return f"at most {longest:,} characters"
        case inspect.LiteralType(values=[*values, last]) if isinstance(last, int):
            return f"{', '.join(map(str, values))} or {last}"
        case _:
            return ""


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    least, most = _least(kind), _most(kind)
    if kind.ge is not None and most is not None:
        return f"{least} to {most}"
    lower = f"more than {kind.gt:,}" if kind.gt is not None else least and f"{least} or more"
    upper = f"below {kind.lt:,}" if kind.lt is not None else most and f"at most {most}"
    return ", ".join(bound for bound in (lower, upper) if bound)


def _least(kind: Any) -> str | None:  # noqa: ANN401, either of two structs without a common base
    return None if kind.ge is None else f"{kind.ge:,}"


def _most(kind: Any) -> str | None:  # noqa: ANN401, either of two structs without a common base
    if kind.le is not None:
        return f"{kind.le:,}"
    # Of whole numbers the largest below can be named.
    return f"{kind.lt - 1:,}" if isinstance(kind, inspect.IntType) and kind.lt is not None else None
