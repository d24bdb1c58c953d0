"""The processes of one training on one machine, kept together by torchrun.

``python -P -m workers.train.service.child.crew PLAN``

torchrun tells each process which one it is, and ends them all when one of them has died. The first of them
has this process's standard input and output, and with them the orders and the answers of the child.
"""

import os
import sys
from pathlib import Path

import msgspec
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from workers.lifeline import die_with
from workers.train.service.child.place import make_relays
from workers.train.service.frames import Plan

_NEVER_S = 7 * 24 * 3600
_ENVIRONMENT = {
    # They are all on this machine, and nobody else's business.
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    # The store that it would share listens on every address. Ours is a file.
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
}


def main() -> None:
    """Start the processes, and wait until they have ended.

    Raises:
        ChildFailedError: one of them has failed.
    """
    plan = msgspec.json.decode(sys.argv[-1], type=Plan)
    die_with(plan.parent_pid)
    # What is printed to standard output would be taken for answers.
    sys.stdout = sys.stderr
    os.environ.update(_ENVIRONMENT)
    folder = Path.cwd()
    make_relays(folder, plan.processes)
    run.main([*_options(folder, plan.processes), *_command(plan)])


def _options(folder: Path, processes: int) -> list[str]:
    return [
        "--nnodes=1",
        f"--nproc-per-node={processes}",
        "--max-restarts=0",
        "--rdzv-id=crew",
        "--rdzv-backend=c10d",
        # Each sign of life is a line more in the file, and nobody else waits for one.
        f"--rdzv-conf=store_type=file,keep_alive_interval={_NEVER_S}",
        f"--rdzv-endpoint={folder / 'crew'}",
        # Made in any case, and gone with the folder.
        f"--log-dir={folder / 'torchrun'}",
    ]


def _command(plan: Plan) -> list[str]:
    own = msgspec.structs.replace(plan, parent_pid=os.getpid())
    module = "workers.train.service.child"
    return ["--no-python", sys.executable, "-P", "-m", module, msgspec.json.encode(own).decode()]


if __name__ == "__main__":
    try:
        main()
    except ChildFailedError:
        # torchrun has said which one, and how.
        sys.exit(1)
