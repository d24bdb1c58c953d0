"""Settings of any process of the house, read once from the environment into a msgspec struct.

A field ``embed_timeout_s`` is the variable ``TOWHEE_API_EMBED_TIMEOUT_S``; the three addresses keep the
names every tool gives them. Bounds and descriptions are the field's ``msgspec.Meta``, so that a wrong value,
the help text and the documentation all speak from one place.
"""

import math
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

PREFIX = "TOWHEE_API_"

#: Fields whose variable carries no prefix.
WELL_KNOWN = frozenset({"database_url", "nats_url", "object_store_url"})

Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=10 * 365 * 24 * 3600)]
Count = Annotated[int, Meta(ge=1)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

T = TypeVar("T", bound=msgspec.Struct)


class SettingsError(Exception):
    """A setting is missing or has a value that can't be used.

    Attributes:
        variable: the environment variable at fault.
    """

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable} {problem}")
        self.variable = variable


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the documentation."""

    variable: str
    #: None where a value has to be given.
    default: str | None
    description: str


class ProcessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the server and every worker need alike."""

    nats_url: Annotated[
        str,
        Meta(
            pattern="^(nats|tls)://.",
            examples=["nats://host:4222"],
            description="Address of the NATS server.",
        ),
    ]
    object_store_url: Annotated[
        str,
        Meta(
            pattern="^(file|s3)://.",
            examples=["file:///folder", "s3://bucket/prefix"],
            description="Where bytes are kept: a folder or an S3 bucket.",
        ),
    ]
    nats_credentials: Annotated[
        Path | None, Meta(description="File with the credential for NATS, where the address has none.")
    ] = None
    drain_s: Annotated[
        Seconds, Meta(description="How long work in hand may still take when asked to stop, in seconds.")
    ] = 30.0
    otlp_endpoint: Annotated[
        str | None,
        Meta(
            pattern="^https?://.",
            examples=["http://host:4318"],
            description="OpenTelemetry collector that gets traces, by OTLP over HTTP; empty: none are made.",
        ),
    ] = None
    log_level: Annotated[LogLevel, Meta(description="What is worth a line in the log.")] = "INFO"


def variable_of(field: str) -> str:
    """Give the environment variable of a field."""
    return field.upper() if field in WELL_KNOWN else PREFIX + field.upper()


def load(settings: type[T], environ: Mapping[str, str]) -> T:
    """Read a settings struct; a variable that is empty counts as not set.

    Raises:
        SettingsError: a variable is missing, or its value is of the wrong kind or out of bounds.
    """
    hints = get_type_hints(settings, include_extras=True)
    values = {}
    for field in msgspec.structs.fields(settings):
        variable = variable_of(field.name)
        raw = environ.get(variable, "")
        if raw:
            values[field.name] = _convert(variable, raw, hints[field.name])
        elif field.required:
            raise SettingsError(variable, f"is not set: it must be {_expectation(hints[field.name])}")
    return settings(**values)


def describe(settings: type[msgspec.Struct]) -> Iterator[Setting]:
    """List what can be set, in the order of the fields."""
    hints = get_type_hints(settings, include_extras=True)
    for field in msgspec.structs.fields(settings):
        yield Setting(
            variable=variable_of(field.name),
            default=None if field.required else _spell(field.default),
            description=" ".join(meta.description for meta in _metas(hints[field.name]) if meta.description),
        )


def _convert(variable: str, raw: str, hint: object) -> object:
    kind = _bare(hint)
    value: object = raw.strip()
    if get_origin(kind) is tuple:
        value = [part.strip() for part in raw.split(",") if part.strip()]
    elif kind is Path:
        value = Path(raw)
    try:
        converted: object = msgspec.convert(value, type=hint, strict=kind in {str, Path})
    except msgspec.ValidationError as error:
        raise SettingsError(variable, f"must be {_expectation(hint)}") from error
    if isinstance(converted, float) and not math.isfinite(converted):
        raise SettingsError(variable, f"must be {_expectation(hint)}")
    return converted


def _bare(hint: object) -> Any:  # noqa: ANN401 - a type, a union's member or a Literal
    """Take bounds and ``| None`` off a type hint."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in {types.UnionType, Union}:
        members = [member for member in get_args(hint) if member is not type(None)]
        return _bare(members[0])
    return hint


def _metas(hint: object) -> list[Meta]:
    metas = []
    if get_origin(hint) is Annotated:
        inner, *outer = get_args(hint)
        metas = [*_metas(inner), *(meta for meta in outer if isinstance(meta, Meta))]
    elif get_origin(hint) in {types.UnionType, Union}:
        metas = [meta for member in get_args(hint) for meta in _metas(member)]
    return metas


_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    tuple: "a list with commas",
    Path: "a path",
}


def _expectation(hint: object) -> str:
    kind = _bare(hint)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    words = [_KINDS[get_origin(kind) or kind]]
    for meta in _metas(hint):
        bounds = (("at least", meta.ge), ("above", meta.gt), ("at most", meta.le), ("below", meta.lt))
        words += [f"{word} {_spell(bound)}" for word, bound in bounds if bound is not None]
        words += [f"like {example}" for example in meta.examples or []]
    return ", ".join(words)


def _spell(value: object) -> str:
    """Write a value the way it would be set."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if value < 1e6 else str(int(value))  # noqa: PLR2004 - %g turns exponential there
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)
