"""Two processes under torchrun are one process with the doubled batch."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from tests.workers.train.scenarios import points, quiet
from workers.train.base import BaseTrainer
from workers.train.configs import TrainerOptions


def make(folder: Path, batch_size: int, max_steps: int) -> BaseTrainer:
    """No batch statistics; an evaluation set that doesn't divide by two."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    options = TrainerOptions(max_steps=max_steps, grad_clip=1.0, ema=0.9)
    steady = {"eval_strategy": "steps", "eval_steps": 10, "lr_scheduler_type": "constant"}
    x, y = points(48)
    config = quiet(folder, batch_size=batch_size, **steady)
    return BaseTrainer(model, config, points(), (x[:47], y[:47]), options=options)


_SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.workers.train.test_distributed import make
folder = Path(sys.argv[1])
for name, max_steps, resume in (("two", 20, None), ("half", 7, None), ("half", 20, folder / "half")):
    trainer = make(folder / name, 8, max_steps)
    trainer.train(resume)
    if trainer.processes.is_main:
        print("RESULT", repr(trainer.logs["eval_epoch_loss"]), repr(trainer.logs["eval_epoch_metric"]))
torch.distributed.destroy_process_group()
"""


def test_two_processes_are_one_with_the_doubled_batch_and_resume_exactly(tmp_path: Path) -> None:
    one = make(tmp_path / "one", 16, 20)
    one.train()

    (tmp_path / "script.py").write_text(_SCRIPT)
    launch = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
    ]
    done = subprocess.run(
        [*launch, str(tmp_path / "script.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        # Loopback only.
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": "."},
        check=False,
    )

    assert 0 == done.returncode, done.stderr[-2000:]
    two, _, resumed = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("RESULT")]
    weights = {
        name: load_file(tmp_path / name / "final_epoch" / "model.safetensors")
        for name in ("one", "two", "half")
    }
    for name, tensor in weights["one"].items():
        torch.testing.assert_close(tensor, weights["two"][name], rtol=0, atol=1e-5)
    assert abs(one.logs["eval_epoch_loss"] - float(two[0])) < 1e-5
    assert one.logs["eval_epoch_metric"] == float(two[1])
    assert two == resumed
    assert all(torch.equal(tensor, weights["half"][name]) for name, tensor in weights["two"].items())
