"""The environment of a command: the process's own, the options typed, the addresses of a stack that runs."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from bus.settings import SettingsError, load, variable_of
from deploy.errors import WrongUse
from deploy.local.folder import DataFolder
from deploy.local.settings import UpSettings

T = TypeVar("T", bound=msgspec.Struct)

ADDRESSES = ("DATABASE_URL", "NATS_URL", "OBJECT_STORE_URL")
#: The pool a worker belongs to unless it is told another.
DEFAULT_POOLS = ("default",)


def with_stack(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the environment, with the addresses of the stack on ``--data-dir`` where they are not set.

    Raises:
        WrongUse: no stack runs there.
    """
    environ = dict(os.environ)
    if arguments.data_dir is None:
        return environ
    endpoints = DataFolder(Path(arguments.data_dir)).read_endpoints()
    return endpoints | {name: value for name, value in environ.items() if value}


def with_nearest_stack(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the environment like ``with_stack``; where it names no address, that of the default data folder.

    For commands of an operator: it is what somebody means who has just said `make up`.

    Raises:
        WrongUse: no stack runs there.
    """
    if arguments.data_dir is not None or any(os.environ.get(name) for name in ADDRESSES):
        return with_stack(arguments)
    folder = os.environ.get("TOWHEE_API_DATA_DIR") or str(UpSettings().data_dir)
    try:
        return with_stack(argparse.Namespace(data_dir=folder))
    except WrongUse as error:
        raise WrongUse(f"{error}, or set {', '.join(ADDRESSES)}") from error


def load_with_options(settings: type[T], environ: Mapping[str, str], options: Mapping[str, str | None]) -> T:
    """Read settings; an option that was typed wins over its variable and is named in its place.

    Args:
        settings: the struct to fill.
        environ: the environment.
        options: what was typed, by the name of the field; None was not.

    Raises:
        SettingsError: a variable is wrong.
        WrongUse: an option is wrong.
    """
    typed = {variable_of(field): value for field, value in options.items() if value is not None}
    empty = next((variable for variable, value in typed.items() if not value), None)
    if empty is not None:
        raise WrongUse(f"{_option_of(empty, options)} needs a value")
    try:
        return load(settings, {**environ, **typed})
    except SettingsError as error:
        if error.variable not in typed:
            raise
        option = _option_of(error.variable, options)
        raise WrongUse(str(error).replace(error.variable, option)) from error


def _option_of(variable: str, options: Mapping[str, str | None]) -> str:
    field = next(field for field in options if variable_of(field) == variable)
    return "--" + field.replace("_", "-")
