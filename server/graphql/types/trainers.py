"""What a trainer can be told: inputs made from the structs that the server checks and the worker reads."""

import dataclasses
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
import strawberry
from msgspec import inspect

from bus.messages import (
    AutoencoderParameters,
    FineTuneParameters,
    GanParameters,
    RnnParameters,
    SemiSupervisedParameters,
)
from server.errors import InvalidInput
from server.graphql.types.enums import TrainerKind
from server.graphql.types.trainer_enums import (
    AutoencoderKind,
    AutoencoderNet,
    FineTuneBase,
    FineTuneMethod,
    GanLoss,
    LearningRateSchedule,
    RnnCell,
    RnnTask,
    RnnTokens,
    SemiSupervisedMethod,
)
from server.parameter_words import range_of, words_of
from server.problems import name_of

T = TypeVar("T", bound=type)


def fields_of(struct: type[msgspec.Struct], enums: Mapping[str, type[StrEnum]]) -> Callable[[T], T]:
    """Give an input a field for each of a struct's: same name, type and default, described with its range.

    Args:
        struct: each of its fields has a default.
        enums: what stands for the fields that are one of several texts.
    """

    def fill(cls: T) -> T:
        info = inspect.type_info(struct)
        words = words_of(struct)
        annotations = dict(cls.__annotations__)
        for field in info.fields if isinstance(info, inspect.StructType) else ():
            enum = enums.get(field.name)
            bounds = range_of(field.type)
            annotations[field.name] = _type_of(field.type, enum)
            default = strawberry.field(
                default=field.default if enum is None else enum(field.default),
                description=f"{words[field.name]} {bounds[:1].upper()}{bounds[1:]}."
                if bounds
                else words[field.name],
            )
            setattr(cls, field.name, default)
        cls.__annotations__ = annotations
        return cls

    return fill


def _type_of(kind: inspect.Type, enum: type[StrEnum] | None) -> Any:  # noqa: ANN401, an annotation
    match kind:
        case inspect.UnionType(types=types):
            [inner] = (one for one in types if not isinstance(one, inspect.NoneType))
            return _type_of(inner, enum) | None
        case inspect.LiteralType(values=values):
            return enum or type(values[0])
        case inspect.BoolType():
            return bool
        case inspect.IntType():
            return int
        case inspect.FloatType():
            return float
        case inspect.StrType():
            return str
    raise TypeError(kind)


def given(values: object) -> dict[str, Any]:
    """Return the fields of such an input as the services take them."""
    named = {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}  # type: ignore[arg-type]
    return {name: value.value if isinstance(value, StrEnum) else value for name, value in named.items()}


_SCHEDULE = {"schedule": LearningRateSchedule}


@strawberry.input(description="A generator and a discriminator, for pictures.")
@fields_of(GanParameters, _SCHEDULE | {"loss": GanLoss})
class GanInput:
    """Parameters of GAN."""


@strawberry.input(
    description="An encoder and a decoder, for pictures, texts as bags of words, and rows of numbers."
)
@fields_of(AutoencoderParameters, _SCHEDULE | {"kind": AutoencoderKind, "net": AutoencoderNet})
class AutoencoderInput:
    """Parameters of AUTOENCODER."""


@strawberry.input(
    description="LSTM or GRU: a language model, a classifier, a tagger, or from sequence to sequence."
)
@fields_of(RnnParameters, _SCHEDULE | {"task": RnnTask, "cell": RnnCell, "tokens": RnnTokens})
class RnnInput:
    """Parameters of RNN."""


@strawberry.input(
    description="A classifier that also learns from rows without a label, for pictures and texts."
)
@fields_of(SemiSupervisedParameters, _SCHEDULE | {"method": SemiSupervisedMethod})
class SemiSupervisedInput:
    """Parameters of SEMI_SUPERVISED."""


@strawberry.input(description="A hosted model learns new classes, of pictures or of texts.")
@fields_of(FineTuneParameters, _SCHEDULE | {"base": FineTuneBase, "method": FineTuneMethod})
class FineTuneInput:
    """Parameters of FINE_TUNE."""


@strawberry.input(
    one_of=True,
    description="Which trainer, and what it is told. Exactly one field is given; `{}` takes its defaults.",
)
class TrainerInput:
    """One of the trainers."""

    gan: GanInput | None = strawberry.field(
        default=strawberry.UNSET, description="A generator of pictures, against a discriminator."
    )
    autoencoder: AutoencoderInput | None = strawberry.field(
        default=strawberry.UNSET, description="An encoder and a decoder."
    )
    rnn: RnnInput | None = strawberry.field(
        default=strawberry.UNSET, description="An LSTM or a GRU, for texts."
    )
    semi_supervised: SemiSupervisedInput | None = strawberry.field(
        default=strawberry.UNSET, description="A classifier that also learns from rows without a label."
    )
    fine_tune: FineTuneInput | None = strawberry.field(
        default=strawberry.UNSET, description="A hosted model that learns new classes."
    )

    def choice(self) -> tuple[TrainerKind, dict[str, Any]]:
        """Return which trainer, and its parameters.

        Raises:
            InvalidInput: none is given.
        """
        for kind in TrainerKind:
            parameters = getattr(self, name_of(kind))
            if parameters:
                return kind, given(parameters)
        raise InvalidInput("Give exactly one trainer.", path=("trainer",))
