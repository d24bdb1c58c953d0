"""The examples of the trainers' README run as they stand, in under ten lines beside their imports."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_README = (_ROOT / "workers" / "train" / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda code: re.findall(r"\w+Trainer", code)[-1])
def test_an_example_runs_as_it_stands(example: str, tmp_path: Path) -> None:
    lines = [line for line in example.splitlines() if line and not line.startswith(("from ", "import "))]
    assert len(lines) < 10
    data = _ROOT / os.environ.get("TOWHEE_API_TRAINING_DATA", ".training-data")
    environment = {
        **os.environ,
        "PYTHONPATH": str(_ROOT),
        "OMP_NUM_THREADS": "1",
        "TOWHEE_API_TRAINING_DATA": str(data),
    }

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", example],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr[-2000:]
