"""The console script `towhee-api`."""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from bus.settings import PREFIX, SettingsError
from deploy.arguments import build_parser
from deploy.errors import CommandFailed, WrongUse

_FAILED, _WRONG_USE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 wrong use, 1 anything else."""
    try:
        arguments = build_parser(_settings_help).parse_args(argv)
        # Each command is a module, so that one doesn't load what another needs.
        code: int = import_module(f"deploy.commands.{arguments.module}").run(arguments)
    except (WrongUse, SettingsError) as error:
        return _refuse(error, _WRONG_USE)
    except CommandFailed as error:
        return _refuse(error, _FAILED)
    except KeyboardInterrupt:
        return _refuse("interrupted", _FAILED)
    except Exception as error:  # noqa: BLE001 - the last edge: what nobody foresaw is still one line
        if os.environ.get(f"{PREFIX}LOG_LEVEL") == "DEBUG":
            traceback.print_exc()
        what = f"{type(error).__name__}: {error}"
        return _refuse(f"unexpected {what} (where from: set {PREFIX}LOG_LEVEL=DEBUG, run it again)", _FAILED)
    return code


def _settings_help() -> str:
    # Only the help looks into every room.
    text: str = import_module("deploy.settings_table").as_help()
    return text


def _refuse(reason: object, code: int) -> int:
    line = " ".join(str(reason).split())
    print(f"towhee-api: {line}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
