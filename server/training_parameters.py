"""Whether a training can be what it is asked to be: all mistakes at once, each beside its field."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import inspect
from msgspec.structs import FieldInfo

from bus.messages import (
    AutoencoderParameters,
    FineTuneParameters,
    GanParameters,
    RnnParameters,
    SemiSupervisedParameters,
    TrainerParameters,
)
from server.field_problems import FieldProblem, InvalidParameters
from server.training_fit import fit_problems
from server.training_records import TrainerKind

__all__ = ["FieldProblem", "InvalidParameters", "fit_problems", "parse_parameters"]

#: More than a person reads; a request may hold more unknown names than this.
_MAX_PROBLEMS: Final = 50
#: Of an unknown name, of which anybody may send a longer one.
_SHOWN_CHARACTERS: Final = 60

_STRUCTS: Final[Mapping[TrainerKind, type[TrainerParameters]]] = MappingProxyType(
    {
        TrainerKind.GAN: GanParameters,
        TrainerKind.AUTOENCODER: AutoencoderParameters,
        TrainerKind.RNN: RnnParameters,
        TrainerKind.SEMI_SUPERVISED: SemiSupervisedParameters,
        TrainerKind.FINE_TUNE: FineTuneParameters,
    }
)


def parse_parameters(trainer: TrainerKind, given: Mapping[str, object]) -> TrainerParameters:
    """Return the parameters of a training, with defaults for those that are not given.

    Raises:
        InvalidParameters: names, types, ranges and contradictions, all that are wrong; paths are relative,
            such as ``("learning_rate",)``.
    """
    struct = _STRUCTS[trainer]
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    problems: list[FieldProblem] = []
    values: dict[str, Any] = {}
    is_sure = True
    for name, value in given.items():
        field = fields.get(name)
        if field is None:
            problems.append(_unknown(trainer, name, fields))
            continue
        try:
            values[name] = _converted(value, field)
        except (msgspec.ValidationError, UnicodeEncodeError):
            problems.append(FieldProblem(path=(name,), message=f"{name} {_wanted(field.type)}."))
            # What goes together depends on choices: with one that is not known, anything may be said.
            is_sure = is_sure and not _is_choice(field.type)
    parameters = struct(**values)
    if is_sure:
        for path, text in parameters.contradictions():
            problems.append(FieldProblem(path=path, message=f"{'.'.join(path)} {text}."))
    if problems:
        raise InvalidParameters(tuple(problems[:_MAX_PROBLEMS]))
    return parameters


def _converted(value: object, field: FieldInfo) -> Any:  # noqa: ANN401 - any of the fields' types
    converted = msgspec.convert(value, field.type)
    if isinstance(converted, str):
        # A lone surrogate is a character of Python's and of no message.
        converted.encode()
    return converted


def _unknown(trainer: TrainerKind, name: object, fields: Mapping[str, FieldInfo]) -> FieldProblem:
    shown = "".join(character if character.isprintable() else "?" for character in str(name))
    shown = shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}…"
    close = get_close_matches(shown, fields, n=1)
    advice = f"; did you mean {close[0]}?" if close else "."
    return FieldProblem(path=(shown,), message=f"{shown} is no parameter of {trainer.value}{advice}")


def _wanted(kind: Any) -> str:  # noqa: ANN401 - a type expression
    return f"must be {' or '.join(_words(inspect.type_info(kind)))}"


def _is_choice(kind: Any) -> bool:  # noqa: ANN401 - a type expression
    info = inspect.type_info(kind)
    members = info.types if isinstance(info, inspect.UnionType) else (info,)
    return any(isinstance(member, inspect.LiteralType | inspect.BoolType) for member in members)


def _words(info: inspect.Type) -> Iterator[str]:
    match info:
        case inspect.UnionType():
            for member in info.types:
                yield from _words(member)
        case inspect.NoneType():
            yield "left out"
        case inspect.BoolType():
            yield "true or false"
        case inspect.LiteralType():
            yield f"one of {', '.join(map(str, info.values))}"
        case inspect.StrType():
            yield f"a text of at most {info.max_length} characters"
        case inspect.IntType():
            yield f"a whole number{_range(info)}"
        case inspect.FloatType():
            yield f"a number{_range(info)}"
        case _:
            yield "something else"


def _range(info: inspect.IntType | inspect.FloatType) -> str:
    bounds = (("of at least", info.ge), ("above", info.gt), ("of at most", info.le), ("below", info.lt))
    said = [f"{word} {bound:,}" for word, bound in bounds if bound is not None]
    return f" {' and '.join(said)}" if said else ""
