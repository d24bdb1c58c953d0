"""The process `towhee-api work train`, with children that run the stand-in."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.script import Script
from tests.workers.train.service.rig import STAND_IN

ROOT = Path(__file__).parents[4]
SECRET = "not-for-children"


@contextmanager
def running_worker(
    script: Script, nats_url: str, tmp_path: Path, *, checkpoint_every_s: float = 0.2, processes: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    environ = {
        "NATS_URL": nats_url,
        "OBJECT_STORE_URL": (tmp_path / "objects").as_uri(),
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "TOWHEE_API_TRAIN_CHECKPOINT_EVERY_S": str(checkpoint_every_s),
        "TOWHEE_API_TRAIN_PREWARM": "false",
        "TOWHEE_API_TRAIN_PROCESSES": processes,
        "TMPDIR": str(tmp_path),
    }
    process = subprocess.Popen([*script.argv, "work", "train"], env=environ, cwd=tmp_path)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stand_in_script(tmp_path: Path) -> Script:
    """The console script, whose children run the stand-in."""
    path = tmp_path / "towhee-api"
    path.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from workers.train.service import worker\n"
        "plan = worker.Plan\n"
        f"worker.Plan = lambda **given: plan(**given, run={STAND_IN!r}, datasets={STAND_IN!r})\n"
        "from deploy.cli import main\n"
        "code = main()\n"
        "loaded = {'torch', 'numpy', 'towhee'} & set(sys.modules)\n"
        "sys.exit(3 if loaded else code)\n"
    )
    return Script(path)
