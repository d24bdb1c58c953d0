"""Turn plain data into a typed struct, or say everything that is wrong with it, each with the field's path.

`msgspec` stops at the first mistake; a person who fills in thirty hyper-parameters wants to hear of all of
them. A struct may add rules over several fields with a method ``problems() -> Iterable[Problem]``.
"""

import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

StructT = TypeVar("StructT", bound=msgspec.Struct)
_MISSING = object()


class Problem(NamedTuple):
    """One mistake: where it is, and what would be right."""

    path: tuple[str, ...]
    message: str


class InvalidConfig(ValueError):
    """A configuration that can't be used; ``problems`` holds every mistake in it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            "; ".join(f"{'.'.join(path) or 'config'}: {message}" for path, message in self.problems)
        )


def convert(data: object, struct_type: type[StructT], path: tuple[str, ...] = ()) -> StructT:
    """Build a ``struct_type`` out of plain data (what JSON gives), with all its rules checked.

    Raises:
        InvalidConfig: with every problem found.
    """
    problems = list(_problems(data, struct_type, path))
    if problems:
        raise InvalidConfig([*problems, *_rules_of_the_rest(data, struct_type, path, problems)])
    made = msgspec.convert(data, struct_type)
    problems = list(rule_problems(made, path))
    if problems:
        raise InvalidConfig(problems)
    return made


def _rules_of_the_rest(
    data: object, struct_type: type[StructT], path: tuple[str, ...], problems: list[Problem]
) -> list[Problem]:
    """What the rules say about the fields that are right, with the defaults in the place of the others."""
    wrong = {problem.path[len(path)] for problem in problems if len(problem.path) > len(path)}
    if not isinstance(data, Mapping) or not wrong:
        return []
    try:
        made = msgspec.convert(
            {name: value for name, value in data.items() if name not in wrong}, struct_type
        )
    except msgspec.ValidationError:  # one of the wrong ones is required
        return []
    return [problem for problem in rule_problems(made, path) if problem.path[len(path)] not in wrong]


def check(config: StructT, path: tuple[str, ...] = ()) -> StructT:
    """The same check for a struct that was made by hand, whose constructor checks nothing.

    Raises:
        InvalidConfig: with every problem found.
    """
    convert(msgspec.to_builtins(config), type(config), path)
    return config


def rule_problems(config: object, path: tuple[str, ...] = ()) -> Iterator[Problem]:
    """What a struct and the structs inside it say against themselves."""
    if isinstance(config, msgspec.Struct):
        rules = getattr(config, "problems", None)
        if rules is not None:
            for problem in rules():
                yield Problem((*path, *problem.path), problem.message)
        for name in config.__struct_fields__:
            yield from rule_problems(getattr(config, name), (*path, name))
    elif isinstance(config, Mapping):
        for key, value in config.items():
            yield from rule_problems(value, (*path, str(key)))
    elif isinstance(config, list | tuple):
        for at, value in enumerate(config):
            yield from rule_problems(value, (*path, str(at)))


def _problems(data: object, wanted: Any, path: tuple[str, ...]) -> Iterator[Problem]:  # noqa: ANN401
    struct_type = _struct_for(data, wanted)
    if struct_type is not None and isinstance(data, Mapping):
        yield from _struct_problems(data, struct_type, path)
        return
    inner = _container(wanted)
    if inner is not None and inner[0] is dict and isinstance(data, Mapping):
        for key, value in data.items():
            yield from _problems(value, inner[1], (*path, str(key)))
        return
    if inner is not None and inner[0] in {list, tuple} and isinstance(data, list | tuple):
        for at, value in enumerate(data):
            yield from _problems(value, inner[1], (*path, str(at)))
        return
    try:
        msgspec.convert(data, wanted)
    except msgspec.ValidationError as error:
        yield Problem(path, _first_sentence(error))


def _struct_problems(
    data: Mapping[Any, object], struct_type: type[msgspec.Struct], path: tuple[str, ...]
) -> Iterator[Problem]:
    config = struct_type.__struct_config__
    hints = get_type_hints(struct_type, include_extras=True)
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct_type)}
    for name, field in fields.items():
        value = data.get(name, _MISSING)
        if value is not _MISSING:
            yield from _problems(value, hints[field.name], (*path, name))
        elif field.required:
            yield Problem((*path, name), "is required")
    known = {*fields, config.tag_field} if config.tag_field else set(fields)
    if config.forbid_unknown_fields:
        for name in data:
            if name not in known:
                yield Problem((*path, str(name)), f"is not known; known are {', '.join(sorted(fields))}")


def _struct_for(data: object, wanted: Any) -> type[msgspec.Struct] | None:  # noqa: ANN401
    """The struct that ``wanted`` asks for; in a union the one with the data's tag."""
    for option in _options(wanted):
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            config = option.__struct_config__
            if config.tag_field is None or not isinstance(data, Mapping):
                return option
            if data.get(config.tag_field) == config.tag:
                return option
    return None


def _container(wanted: Any) -> tuple[type, Any] | None:  # noqa: ANN401  any type form
    for option in _options(wanted):
        origin, arguments = get_origin(option), get_args(option)
        if origin is dict:
            return dict, arguments[1]
        if origin is list or (origin is tuple and arguments[1:] == (...,)):
            return origin, arguments[0]
    return None


def _options(wanted: Any) -> tuple[Any, ...]:  # noqa: ANN401  any type form
    if get_origin(wanted) is Annotated:
        return _options(get_args(wanted)[0])
    if get_origin(wanted) in {Union, types.UnionType}:
        return tuple(option for part in get_args(wanted) for option in _options(part))
    return (wanted,)


def _first_sentence(error: msgspec.ValidationError) -> str:
    return str(error).split(" - at `", 1)[0]
