"""The console script of this checkout, as an installation would make it."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_TEXT = """\
#!{python}
import sys
sys.path.insert(0, {root!r})
from deploy.cli import main
sys.exit(main())
"""


class Script:
    """`towhee-api`, run the way a person runs it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def argv(self) -> list[str]:
        """The beginning of its command line."""
        return [sys.executable, str(self.path)]

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*self.argv, *arguments],
            env=dict(env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def make_script(path: Path, root: Path) -> Script:
    """Write the console script of the checkout in ``root``."""
    path.write_text(_TEXT.format(python=sys.executable, root=str(root)))
    path.chmod(0o755)
    return Script(path)


@pytest.fixture(scope="session")
def towhee_api(tmp_path_factory: pytest.TempPathFactory) -> Script:
    """The console script, whether or not the project is installed."""
    return make_script(tmp_path_factory.mktemp("bin") / "towhee-api", ROOT)
