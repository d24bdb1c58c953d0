"""Every setting of every process as one table: for the help text, and for the README.

``python -m deploy.settings_table`` prints the README's table; a test compares them.
"""

import sys
import textwrap
from collections.abc import Iterable

from bus.settings import PREFIX, Setting, describe
from deploy.client.settings import ClientSettings
from deploy.local.settings import UpSettings
from server.settings import Settings as ServerSettings
from workers.embed.settings import EmbedSettings
from workers.train.service.settings import TrainSettings


def all_settings() -> list[Setting]:
    """List each variable once, those that must be set first."""
    found: dict[str, Setting] = {}
    for settings in (ServerSettings, EmbedSettings, TrainSettings, UpSettings, ClientSettings):
        for setting in describe(settings):
            found.setdefault(setting.variable, setting)
    return sorted(found.values(), key=lambda setting: setting.default is not None)


def find_unknown(names: Iterable[str]) -> list[str]:
    """Return the variables that look like settings of ours and are none, most likely misspelt."""
    known = {setting.variable for setting in all_settings()}
    return sorted(name for name in names if name.startswith(PREFIX) and name not in known)


def as_help() -> str:
    """Write the table for a terminal."""
    lines = []
    for setting in all_settings():
        default = "" if not setting.default else f" [{setting.default}]"
        lines.append(f"  {setting.variable}{default}")
        lines += textwrap.wrap(setting.description, 90, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def as_markdown() -> str:
    """Write the table for the README."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for setting in all_settings():
        default = "required" if setting.default is None else f"`{setting.default}`" if setting.default else ""
        rows.append(f"| `{setting.variable}` | {default} | {setting.description} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(as_markdown() + "\n")
